"""`hooktape demo`: a shop, a warehouse, the real services between them, and a judge who believes neither of these."""
