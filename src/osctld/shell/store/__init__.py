"""What is kept on disk: the database, files beside it, and each container's document mirrored at its root."""
