"""All code that uses aiokafka, kafka-python or Faust."""
