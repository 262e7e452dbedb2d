"""How processes begin, run, take up new configuration, and run all on one machine."""
