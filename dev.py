#!/usr/bin/env python3
"""Sets the project up in `.venv` and runs it: `python3 dev.py demo | test | check | bench | setup`.

Needs Python 3.11 or newer and its `venv`, nothing else. Written for any Python 3, so that an old one is told what is missing
instead of failing on syntax. `make demo` and `make test` call this.
"""

import hashlib
import os
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.abspath(__file__))
VENV = os.path.join(ROOT, ".venv")
BIN = os.path.join(VENV, "Scripts" if os.name == "nt" else "bin")
STAMP = os.path.join(VENV, "installed")
LEAST = (3, 11)


def main(words):
    commands = {"demo": demo, "test": test, "check": check, "bench": bench, "setup": lambda rest: setup()}
    if not words or words[0] not in commands:
        say("Usage: python3 dev.py " + " | ".join(sorted(commands)))
        return 2
    return commands[words[0]](words[1:]) or 0


def demo(rest):
    setup()
    return run([tool("hooktape"), "demo", *rest])


def test(rest):
    setup()
    # Without arguments: all, several files at once. With some, as pytest itself would.
    return run([tool("python"), "-m", "pytest", *(rest or ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder"])])


def check(rest):
    setup()
    steps = [
        ("style", [tool("ruff"), "check", "."]),
        ("types", [tool("mypy")]),
        ("layers", [tool("lint-imports")]),
    ]
    failed = []
    for name, command in steps:
        say("checking " + name)
        if run(command):
            failed.append(name)
    if failed:
        say("failed: " + ", ".join(failed))
    return 1 if failed else 0


def bench(rest):
    setup()
    names = rest or ["ingest", "consume", "parallel", "stuck", "memory", "ledger", "catalogue", "latency", "reconcile"]
    return max(run([tool("python"), os.path.join(ROOT, "benchmarks", name + ".py")]) for name in names)


def setup():
    """Makes `.venv` and installs the project with everything for the demo and the tests, unless that has been done."""
    if sys.version_info < LEAST:
        stop("Hooktape needs Python 3.11 or newer; this is {}.{}. Run it as python3.11 dev.py.".format(*sys.version_info[:2]))
    wanted = fingerprint()
    if os.path.exists(STAMP):
        with open(STAMP) as file:
            if file.read() == wanted:
                return
    started = time.time()
    if not os.path.exists(tool("python")):
        say("setting up: a Python environment in .venv")
        make_venv()
    say("setting up: installing packages (430 MB on disk, with a Java runtime and PostgreSQL; once)")
    install()
    fetch_kafka()
    with open(STAMP, "w") as file:
        file.write(wanted)
    say("setting up: done in {:.0f} s".format(time.time() - started))


def make_venv():
    try:
        import ensurepip  # noqa: F401
        import venv
    except ImportError:
        stop("this Python has no `venv`. On Debian and Ubuntu: apt install python3-venv. Then run this again.")
    venv.create(VENV, with_pip=True, clear=os.path.isdir(VENV))


def install():
    command = [tool("python"), "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off",
               "-c", os.path.join(ROOT, "constraints.txt"), "-e", ROOT + "[local,dev]"]  # fmt: skip
    log = os.path.join(VENV, "install.log")
    with open(log, "w") as file:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in process.stdout:
            file.write(line)
            if line.startswith("Collecting "):
                word = line.split()[1]
                say("  " + word)
            elif line.startswith("Installing collected packages"):
                say("  unpacking")
        if process.wait():
            with open(log) as file:
                sys.stderr.write("".join(file.readlines()[-15:]))
            stop("the packages could not be installed; the whole output is in " + log)


def fetch_kafka():
    """Kafka's jars, checked against the shipped sums. Here, so that neither the demo nor a test waits for a download."""
    code = "import sys; from hooktape.local import jars; jars.class_path(jars.default_folder(), lambda t: print(' ', t, file=sys.stderr))"
    if run([tool("python"), "-c", code]):
        stop("Kafka's jars could not be fetched: see above.")


def fingerprint():
    """What the installed environment depends on: a change of any of these installs again."""
    digest = hashlib.sha256(repr((sys.version_info[:3], ROOT)).encode())
    for name in ("pyproject.toml", "constraints.txt"):
        with open(os.path.join(ROOT, name), "rb") as file:
            digest.update(file.read())
    return digest.hexdigest()


def tool(name):
    return os.path.join(BIN, name + (".exe" if os.name == "nt" else ""))


def run(command):
    try:
        return subprocess.call(command, cwd=ROOT)
    except KeyboardInterrupt:
        return 130


def say(text):
    print(text, file=sys.stderr, flush=True)


def stop(why):
    say("dev.py: " + why)
    sys.exit(2)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
