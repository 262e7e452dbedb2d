"""Ask the ledger and Kafka what happened to events."""
