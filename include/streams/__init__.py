"""The two Spark streams: from a range of a Kafka partition to one transaction in PostgreSQL."""

TRANSACTION_STREAM = "transaction_stream"  # stores transactions, labels and dead letters
FRAUD_STREAM = "fraud_stream"  # scores transactions
STREAMS = (TRANSACTION_STREAM, FRAUD_STREAM)  # rows of shop.stream_leases, and files in spark_jobs/
