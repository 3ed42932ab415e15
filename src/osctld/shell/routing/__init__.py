"""Routing daemons, by their control sockets and files."""
