"""Follow events as they arrive."""
