"""Synthetic transactions with known fraud: the same seed gives the same bytes, and any slot of time by itself."""
