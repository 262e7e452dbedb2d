"""Name the new place of this module."""

raise ImportError("forwarders.fields is now forwarders.api.fields")
