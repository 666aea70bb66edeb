"""The `hooktape` command: one thin file per sub-command. It parses, calls and prints; it decides nothing."""
