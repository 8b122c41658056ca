"""What keeps a running platform sound: reconciliation, housekeeping, dead letters, parity."""
