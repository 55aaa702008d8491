"""The library proper: norms, recurrences, statistics. Needs torch alone."""
