"""Admin API against tape: finds what was never delivered and records it. It never calls anything missing that a list alone suggests."""
