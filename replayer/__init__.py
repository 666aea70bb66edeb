"""Rewinds the tape: selects, plans, republishes to one group and accounts for it; resets offsets, redrives dead letters, keeps
the catalogue. It never runs a handler and never decides an outcome: workers do, and the ledger tells.
"""
