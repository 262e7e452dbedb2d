"""Reads, checks and describes a configuration folder."""
