"""Deliveries from record to outcome: pending, dead letters, masking."""
