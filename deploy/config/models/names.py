"""The form of names in configuration files."""

NAME = r"^[a-z0-9][a-z0-9_-]{0,63}$"
