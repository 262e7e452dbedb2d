"""Decide whether an event has the consent that an integration requires."""
