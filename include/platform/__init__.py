"""The embedded platform: real Kafka, PostgreSQL, MLflow, Airflow and Streamlit on one machine, without Docker."""
