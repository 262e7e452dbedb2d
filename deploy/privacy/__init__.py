"""Data that was sent about one user, and the list of suppressed users."""
