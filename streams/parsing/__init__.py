"""Lenient readers for JSON, times and texts as clients write them."""
