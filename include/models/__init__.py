"""Fraud detectors and the fast form that scores transactions."""
