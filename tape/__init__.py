"""Kafka: names, headers, clients, the one publisher, the one reader, administration. It knows no handlers and no ledger."""
