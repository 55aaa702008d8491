"""Kernels in Triton's language: those of each step, and the functions that they share."""
