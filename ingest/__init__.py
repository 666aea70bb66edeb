"""HTTP to tape: verifies a webhook and records it. It never parses a body to accept it, and answers 2xx only after the write is durable."""
