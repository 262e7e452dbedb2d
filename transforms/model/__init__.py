"""The tree that rules are parsed to."""
