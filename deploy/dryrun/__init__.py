"""What rules make of events, offline: previewed, tested, explained, compared; and what a vendor's validation says."""
