"""Text to nodes, and back: paths, conditions, mappings and rule files."""
