"""Refuse imports of the old name: the middleware is the distribution turnout-tracking, in `turnout_tracking/` here."""

raise ImportError(
    "streams.tracking is now a package of its own, turnout_tracking:"
    " pip install turnout-tracking, then import from turnout_tracking"
)
