"""Block the events of suppressed users."""
