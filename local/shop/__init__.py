"""A Shopify shop on this machine: it sells, restocks and deletes, sends signed webhooks with seeded faults, and
answers the Admin API. For the demo, tests and benchmarks; it holds no real data and listens on loopback only."""
