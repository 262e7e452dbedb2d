"""HTTP in: requests to records."""
