"""Decide when deliveries are sent: batches, queues, rates, back-off and the breaker."""
