"""Objects of storage, and the records that wait for them on disk."""
