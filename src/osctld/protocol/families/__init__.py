"""One file per family of requests, named by the first word of theirs. Nothing is registered."""
