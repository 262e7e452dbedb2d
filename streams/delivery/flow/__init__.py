"""What is sent when: batches, queues, rates, back-off and the breaker."""
