"""The public plug-in API: what a forwarder declares and implements."""
