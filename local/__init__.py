"""What a laptop or a test needs in place of the outside: a Kafka, a PostgreSQL, a Shopify shop. Never imported by a service."""
