"""Raise an error that names the new location of this module."""

raise ImportError("forwarders.urls is now forwarders.api.urls")
