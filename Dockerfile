# One image for Airflow, Spark, MLflow, Streamlit and the jobs; docs/decisions/0003-one-image.md says why.
FROM python:3.12.13-slim-bookworm

# Spark 4.2 needs Java 17.0.11 or newer.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends openjdk-17-jre-headless \
    && rm -rf /var/lib/apt/lists/*

ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /opt/fraudstream
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Packages as they are locked, by their hashes. What only tests need goes: this is the lock file of `make test`, too.
COPY requirements.lock ./
RUN python -m venv /opt/venv \
    && grep -A 60 '^uv==' requirements.lock | sed '/^    # via/,$d' > /tmp/uv.lock \
    && pip install --no-cache-dir --quiet --require-hashes --no-deps -r /tmp/uv.lock \
    && uv pip sync --no-cache --python /opt/venv/bin/python --require-hashes --compile-bytecode requirements.lock \
    && uv pip uninstall --python /opt/venv/bin/python \
        faker grafana-foundation-sdk hypothesis mypy pip-audit playwright pytest pytest-timeout ruff types-psutil types-pyyaml \
    && rm /tmp/uv.lock

# The Kafka connector of Spark: from Maven Central, each jar checked against its sha256.
COPY include/__init__.py include/
COPY include/platform/__init__.py include/platform/jars.py include/platform/jars.sha256 include/platform/ivy.xml \
    include/platform/ivysettings.xml include/platform/
RUN python -c 'from include.platform import jars; jars.fetch()' \
    && rm -rf /opt/venv/share/fraudstream/jars/ivy

COPY . .
RUN uv pip install --no-cache --python /opt/venv/bin/python --no-deps --no-build-isolation --editable . \
    && useradd --uid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin fraudstream \
    && install --directory --owner fraudstream --group fraudstream --mode 0750 \
        /var/lib/fraudstream /var/lib/fraudstream/secrets /var/lib/fraudstream/mlflow-artifacts

USER 10001:10001
ENV HOME=/tmp
ENTRYPOINT ["python", "-m", "include.platform.container"]
