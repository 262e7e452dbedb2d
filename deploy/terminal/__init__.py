"""Text on a terminal: escaping, tables, durations, and how a command fails."""
