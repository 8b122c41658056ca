"""What a transaction and a label are: decoding, limits, and mappings of other people's fields."""
