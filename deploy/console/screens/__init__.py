"""Define the console's pages, one module per screen."""
