"""The relational store: outcomes, the catalogue, replay jobs, cursors, the audit trail. It holds coordinates and outcomes, never payloads."""
