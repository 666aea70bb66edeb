"""The relational store: outcomes, the catalogue, jobs, cursors, the audit trail. Coordinates and outcomes only, never payloads."""
