"""Raise an error that names the new location of this module."""

raise ImportError("forwarders.auth is now forwarders.api.auth")
