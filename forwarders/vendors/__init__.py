"""One folder per vendor: the forwarder and its preset."""
