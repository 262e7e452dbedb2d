"""The conformance suite for forwarders, run by `turnout conformance` and by a pytest plug-in."""
