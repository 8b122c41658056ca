"""The two Spark streams: from a range of a Kafka partition to one transaction in PostgreSQL."""
