"""The wire format of each record, one module per record type."""
