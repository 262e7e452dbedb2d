"""Raise an ImportError that names the package's new location."""

raise ImportError("streams.enrichment is now streams.steps.enrichment")
