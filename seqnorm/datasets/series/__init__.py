"""Numeric series of different lengths: reading, scaling and batching."""
