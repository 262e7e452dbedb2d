"""What is known and sent about one user, and the list of users of whom nothing is forwarded."""
