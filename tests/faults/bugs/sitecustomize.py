"""Puts a bug back into every Python process whose PYTHONPATH has this folder: a stream's driver and workers."""

import os

if bug := os.environ.get("FRAUDSTREAM_TEST_BUG"):
    from tests.faults.bugs import put_back

    put_back(bug)
