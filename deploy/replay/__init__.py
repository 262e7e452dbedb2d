"""What died or was rejected, and the past: listed, and sent again."""
