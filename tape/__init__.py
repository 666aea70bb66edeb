"""Kafka: names, headers, clients, the one publisher, the one reader, topic and group administration. It knows nothing of handlers or of the ledger."""
