"""The container image, and Docker Compose."""
