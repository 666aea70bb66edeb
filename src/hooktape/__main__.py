"""`python -m hooktape` is the `hooktape` command."""

from importlib import import_module

if __name__ == "__main__":
    import_module("hooktape.cli.main").main()
