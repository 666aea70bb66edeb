"""Rewinding: catalogue, plans, jobs, offset reset, dead-letter redrive. It never runs a handler and never moves a live group."""
