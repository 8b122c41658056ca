"""From stored transactions to a judged model."""
