"""The two kinds of delivery: requests and whole objects."""
