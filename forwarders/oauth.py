"""Raise an error that names the new location of this module."""

raise ImportError("forwarders.oauth is now forwarders.api.oauth")
