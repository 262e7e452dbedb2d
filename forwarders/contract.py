"""Raise an error that names the new location of this module."""

raise ImportError("forwarders.contract is now forwarders.api.contract")
