"""Results of runs: scores, rows, tables and pictures, and the linear baseline."""
