"""Study of what to do about BatchNorm's limitations in a recurrent network."""
