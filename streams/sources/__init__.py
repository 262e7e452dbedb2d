"""Sources of events, with their limits and webhooks."""
