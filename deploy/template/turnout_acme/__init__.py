"""A forwarder for Acme."""
