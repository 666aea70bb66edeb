"""The HTTP API: one table of routes over the functions that the commands use. It decides nothing by itself."""
