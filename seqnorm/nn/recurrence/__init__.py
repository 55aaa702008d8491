"""One step of a recurrent cell, where its norms stand, and the loop over time."""
