"""Containers' roots: filled from images, archives, other containers or busybox, on disk once it is said."""
