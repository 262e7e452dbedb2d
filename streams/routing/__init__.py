"""Which integrations receive an event, and what each is sent."""
