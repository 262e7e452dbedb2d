"""Authenticate the console's users, and protect its requests."""
