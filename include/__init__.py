"""fraudstream: the package that DAGs, Spark jobs, the app and the tests share."""

__version__ = "0.1.0"
