"""Kafka's own `kafka-consumer-groups` and Debian's `kcat`, for a second opinion on what a group's offsets are."""

import csv
import io
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from hooktape.errors import LocalStackError
from hooktape.local import jars, java

# Beside the jars that the broker needs: the tools' own, of the same version.
_TOOLS = jars.Jar("org.apache.kafka", "kafka-tools", "4.3.0", "b88bc6ccc520d648142515526e4042c285612ce94b032434a88e3e936e38b600")
_MAIN = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"

Place = tuple[str, int]


def consumer_groups(bootstrap: str, *words: str) -> str:
    """What the tool prints on standard output. The test is skipped where its jar can't be had."""
    # Little of it is compiled before it ends: the first compiler alone is quicker.
    command = [str(java.find()), "-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", _class_path(), _MAIN]
    done = subprocess.run([*command, "--bootstrap-server", bootstrap, *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Error" not in done.stdout, done.stdout
    return done.stdout


def described(bootstrap: str, group: str, prefix: str) -> dict[Place, int]:
    """Partition → CURRENT-OFFSET of `--describe`, of topics under `prefix`."""
    rows = [line.split() for line in consumer_groups(bootstrap, "--describe", "--group", group, "--offsets").splitlines()]
    header = next(row for row in rows if row[:1] == ["GROUP"])
    topic, partition, offset = (header.index(name) for name in ("TOPIC", "PARTITION", "CURRENT-OFFSET"))
    return {(row[topic], int(row[partition])): int(row[offset]) for row in rows
            if row and row[0] == group and row[topic].startswith(prefix) and row[offset] != "-"}  # fmt: skip


def rows_of(exported: str) -> list[list[str]]:
    """The rows of a `--export`, without the tool's empty lines."""
    return sorted(row for row in csv.reader(io.StringIO(exported)) if row)


def first_by_kcat(bootstrap: str, group: str, topic: str) -> dict[int, int]:
    """Partition → the first offset that kcat gets as a member of the group: where the broker lets it go on."""
    kcat = shutil.which("kcat")
    if kcat is None:
        pytest.skip("kcat isn't installed (Debian: apt install kcat)")
    command = [kcat, "-b", bootstrap, "-G", group, "-q", "-e", "-f", "%p %o\n", "-X", "enable.auto.commit=false",
               "-X", "auto.offset.reset=error", topic]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: dict[int, int] = {}
    for line in done.stdout.splitlines():
        partition, offset = map(int, line.split())
        found[partition] = min(offset, found.get(partition, offset))
    return found


def _class_path() -> str:
    folder = jars.default_folder()
    own = folder.with_name(f"kafka-tools-{_TOOLS.version}") / _TOOLS.name
    try:
        broker = jars.class_path(folder, print)
        if not own.exists():
            own.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=own.parent, prefix=".fetch-") as scratch:
                found = jars.downloader(Path(scratch))(_TOOLS)
                jars.check(found, _TOOLS)
                found.replace(own)  # whole and checked, or not there
        jars.check(own, _TOOLS)
    except LocalStackError as error:
        pytest.skip(str(error))
    return os.pathsep.join(map(str, [own, *broker]))
