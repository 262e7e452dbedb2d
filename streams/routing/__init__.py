"""Decide which integrations receive an event, and map it for each."""
