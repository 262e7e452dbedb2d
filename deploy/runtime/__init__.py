"""Start processes, reload their configuration, and run all of them on one machine."""
