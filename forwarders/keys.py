"""Name the new place of this module."""

raise ImportError("forwarders.keys is now forwarders.api.keys")
