"""Tape to handlers: the `App` API, the worker, retries, dead letters, HTTP forwarding. It never writes to the log topics."""
