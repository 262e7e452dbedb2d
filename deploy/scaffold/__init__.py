"""New forwarders and integrations from templates."""
