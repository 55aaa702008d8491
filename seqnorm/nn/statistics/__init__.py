"""Means and variances: over which elements, under which mask, and the running ones."""
