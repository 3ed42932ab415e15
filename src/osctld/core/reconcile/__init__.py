"""What is ours, what of it differs from what is wanted, and which containers the kernel's notifications concern."""
