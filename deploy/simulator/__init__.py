"""A local server that simulates the vendors: it accepts any request, lists the last ones, and injects faults."""
