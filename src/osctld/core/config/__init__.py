"""The wanted state: the host with its containers and settings, and edits of it, as frozen values."""
