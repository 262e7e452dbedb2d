"""Reject imports of the old name. The middleware is now the distribution turnout-tracking, in `turnout_tracking/`."""

raise ImportError(
    "streams.tracking is now a package of its own, turnout_tracking:"
    " pip install turnout-tracking, then import from turnout_tracking"
)
