"""Name the new place of this module."""

raise ImportError("forwarders.auth is now forwarders.api.auth")
