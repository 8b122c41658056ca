"""Recorded transactions from files of any layout into Kafka."""
