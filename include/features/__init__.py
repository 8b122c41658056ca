"""Behaviour features: one function for live stream, training and parity."""
