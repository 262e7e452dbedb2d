"""Where events come from: sources, their limits and webhooks."""
