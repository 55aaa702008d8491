"""The statistics of training and those of inference: two functions of the same weights."""
