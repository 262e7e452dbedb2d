"""Models of the configuration files."""
