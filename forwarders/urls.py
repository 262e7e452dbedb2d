"""Name the new place of this module."""

raise ImportError("forwarders.urls is now forwarders.api.urls")
