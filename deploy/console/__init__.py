"""The console: pages that show what happens to events, for a browser."""
