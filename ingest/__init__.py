"""HTTP → verify → tape. It records what Shopify signed and answers; it never reads the tape, the ledger or a body's meaning."""
