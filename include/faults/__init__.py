"""The fault campaign: hurts a running platform in every way it must survive, and closes the books from outside."""
