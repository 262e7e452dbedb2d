"""What happened to each event."""
