"""Print text on a terminal: escaping, tables, durations, and failed commands."""
