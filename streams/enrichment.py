"""Name the new place of this package."""

raise ImportError("streams.enrichment is now streams.steps.enrichment")
