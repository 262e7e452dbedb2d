"""What an event's user agreed to, and what an integration requires."""
