"""Name the new place of this module."""

raise ImportError("forwarders.oauth is now forwarders.api.oauth")
