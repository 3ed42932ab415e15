"""The facts that findings are made of, and what is looked at before the daemon starts at all."""
