"""Small batches give noisy statistics: the first of BatchNorm's limitations."""
