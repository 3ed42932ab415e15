"""What is ours, what of it is different from what is wanted, and whom the news of the kernel concern."""
