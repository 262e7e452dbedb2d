"""Report the data sent about a user, and manage the list of suppressed users."""
