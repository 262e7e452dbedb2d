"""What a source does to its events before any integration sees them."""
