"""Delivery to vendors: batches, retries, rates, requests and outcomes."""
