"""Serve the console: pages in a browser that show what happens to events."""
