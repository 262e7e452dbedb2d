"""Reports of processes, and commands to them, through Kafka."""
