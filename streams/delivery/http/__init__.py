"""HTTP requests to vendors, and access tokens."""
