#!/bin/sh
# Writes the passwords and keys of docker-compose.yaml, one a file, unless they are there.
# The folder is closed to others; its files are readable, so that the users of the containers can read them.
set -eu
folder="${1:-$(dirname "$0")/secrets}"
mkdir -p "$folder"
chmod 700 "$folder"
for name in postgres owner stream_writer trainer app personal grafana relay airflow mlflow \
    airflow_admin airflow_api_secret airflow_jwt airflow_fernet streamlit_cookie spark_secret grafana_admin \
    mlflow_admin
do
    [ -s "$folder/$name" ] && continue
    # URL-safe base64 of random bytes: 32 in a Fernet key, and no fewer than 64 characters in a key that signs tokens.
    bytes=48
    [ "$name" = airflow_fernet ] && bytes=32
    head -c "$bytes" /dev/urandom | base64 | tr '+/' '-_' > "$folder/$name.part"
    chmod 444 "$folder/$name.part"
    mv "$folder/$name.part" "$folder/$name"
done
