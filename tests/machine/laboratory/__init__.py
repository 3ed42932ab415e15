"""Whole machines under QEMU: their images, their states, and the hand inside them."""
