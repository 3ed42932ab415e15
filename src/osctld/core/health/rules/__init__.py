"""Rules over facts, by subject: each yields what it finds, with the commands that repair it."""
