"""Addresses and networks as values: parsed, compared, packed by the hundred thousand."""
