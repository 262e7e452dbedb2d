"""Receive events over HTTP and write them to Kafka."""
