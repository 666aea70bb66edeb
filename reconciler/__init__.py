"""Admin API against tape: finds what was never delivered and records it.

It never calls anything missing that a list alone suggests, imports no other service, and writes to the tape only what it has
fetched by id.
"""
