"""Generate Python source from nodes."""
