"""The relational store: outcomes, the catalogue, replay jobs, cursors, the audit trail.

It holds coordinates and outcomes, never payloads. All of it is reached through `hooktape.ledger.ledger.Ledger`; it never
speaks to Kafka.
"""
