"""Words in, words out: command lines to commands, replies to tables, and help. Nothing here acts."""
