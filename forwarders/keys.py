"""Raise an error that names the new location of this module."""

raise ImportError("forwarders.keys is now forwarders.api.keys")
