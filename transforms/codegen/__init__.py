"""The tree of nodes to Python source."""
