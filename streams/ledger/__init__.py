"""Record, audit and look up the outcomes of every event."""
