"""Raise an error that names the new location of this package."""

raise ImportError("streams.enrichment is now streams.steps.enrichment")
