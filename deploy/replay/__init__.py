"""List and replay dead letters, rejected events and past events."""
