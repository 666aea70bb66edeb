"""The package's face: lazy, cheap, honest."""

import subprocess
import sys

import pytest

import hooktape


def test_the_face_offers_what_a_handler_needs():
    assert hooktape.Retry(after=30).after == 30
    assert hooktape.Event.__name__ == "Event"
    assert hooktape.App.__name__ == "App"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Nope'"):
        _ = hooktape.Nope


def test_importing_the_face_imports_no_client_library():
    code = "import hooktape, sys; print([m for m in ('confluent_kafka', 'fastavro', 'httpx', 'msgspec') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_loads_no_command():
    code = ("import sys; sys.argv = ['hooktape', '--help']; from hooktape.cli import main\n"
            "try: main.main()\nexcept SystemExit: pass\n"
            "print('loaded', [m for m in sys.modules if m.startswith('hooktape.cli.')], 'confluent_kafka' in sys.modules)")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "loaded ['hooktape.cli.main'] False" in done.stdout
