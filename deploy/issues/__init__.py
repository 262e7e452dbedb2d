"""Explain groups of dead letters."""
