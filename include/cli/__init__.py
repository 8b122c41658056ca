"""The console script `fraudstream`."""
