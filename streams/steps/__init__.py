"""The steps that a source's events pass through before any integration gets them."""
