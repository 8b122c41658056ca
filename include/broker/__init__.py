"""How Kafka is reached and written to."""
