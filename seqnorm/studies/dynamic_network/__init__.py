"""Networks unrolled to another length for every batch, with steps that rest on few rows."""
