"""Name the new place of this module."""

raise ImportError("forwarders.contract is now forwarders.api.contract")
