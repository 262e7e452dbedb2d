"""Raise an error that names the new location of this module."""

raise ImportError("forwarders.fields is now forwarders.api.fields")
