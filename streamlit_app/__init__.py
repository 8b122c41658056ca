"""The pages: live overview, model performance and the analysts' alerts."""
