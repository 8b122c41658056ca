"""Models in the MLflow registry: registered by training, verified before any process scores with them.

A version is usable only when shop.models holds the sha256 of its `model.skops`, which training writes before any
alias points at the version. MLflow stores the bytes, PostgreSQL says which bytes are right: whoever can change
one of the two cannot change what runs. Bytes with another hash, or with types beyond those that the family
needs, are never deserialised.

Reading (`aliases`, `loading`) goes through MLflow's REST interface with short timeouts and no retries, so that a
stream is never held up for minutes (and does not import MLflow); only registration and deletion use the MLflow library.
"""
