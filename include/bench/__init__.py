"""What the platform's own ways cost beside the usual ones, measured side by side in one run.

A figure of one machine says little; a ratio whose two sides took turns on it says more.
"""

from datetime import UTC, datetime

# Each is a module here with a function `measure`; the others measure other things and take minutes.
SUITES = ("generator", "decode", "score", "reasons", "customers", "store", "streams")
DETECTION, DRIFT, QUERIES, TRAIN = "detection", "drift", "queries", "train"

START = datetime(2026, 1, 1, tzinfo=UTC)  # of the simulated time that is measured
