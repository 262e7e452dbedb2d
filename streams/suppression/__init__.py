"""Users that nothing is forwarded for."""
