"""The REST interface of Confluent's Schema Registry."""
