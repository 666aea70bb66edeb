"""Apache Kafka's jars: fetched once by `jgo`, kept in a cache that all homes of a user share, checked on every start.

`kafka.lock.toml` is the whole truth: which jars, and the SHA-256 of each. Nothing else gets onto the class path. The
dependency graph isn't walked on a user's machine: with the coordinates locked, fetching takes 7 s instead of the 21 s
of `jgo.build`, which also fetches a JDK of its own to sort the jars into modules.
"""

import hashlib
import os
import shutil
import tempfile
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from hooktape.errors import LocalStackError
from hooktape.local.locks import held

LOCK = Path(__file__).with_name("kafka.lock.toml")
CONNECTIONS = 4  # 46 small files: latency counts, and more would be rude to a public repository
ATTEMPTS = 3  # a dropped connection is common, three in a row for one file aren't
FETCH_SECONDS = 600.0  # another process may be fetching 44 MB over a slow line


@dataclass(frozen=True)
class Jar:
    """One locked artifact."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def locked() -> list[Jar]:
    """The jars that the shipped lock names."""
    entries = tomllib.loads(LOCK.read_text())["dependencies"]
    return [Jar(entry["groupId"], entry["artifactId"], entry["version"], entry["sha256"]) for entry in entries]


def kafka_version() -> str:
    """The version of Apache Kafka that the lock stands for."""
    return next(jar.version for jar in locked() if jar.artifact.startswith("kafka_"))


def default_folder() -> Path:
    """Where the jars are kept: the user's cache folder, so that a new home or a new clone downloads nothing."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "hooktape" / f"kafka-{kafka_version()}"


def class_path(folder: Path, progress: Callable[[str], None]) -> list[Path]:
    """Every locked jar in `folder`, checked; those that aren't there are fetched first.

    Raises LocalStackError when a jar isn't what the lock says (and names it), or can't be fetched.
    """
    jars = locked()
    if any(not (folder / jar.name).exists() for jar in jars):
        folder.mkdir(parents=True, exist_ok=True)
        with held(folder / "fetch.lock", FETCH_SECONDS, f"another process is fetching Kafka's jars into {folder}"):
            if missing := [jar for jar in jars if not (folder / jar.name).exists()]:
                _fetch(missing, folder, progress)
    # Not remembered between starts: hashing all 44 MB takes 0.04 s.
    for jar in jars:
        check(folder / jar.name, jar)
    return [folder / jar.name for jar in jars]


def check(path: Path, jar: Jar) -> None:
    """Raises LocalStackError unless `path` holds exactly what the lock says of `jar`."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != jar.sha256:
        raise LocalStackError(
            f"{path} isn't {jar.group}:{jar.artifact}:{jar.version} as locked: its SHA-256 is {found}, the lock says "
            f"{jar.sha256}. It was damaged or tampered with, and isn't run. Delete it, and the next start fetches it again."
        )


def _fetch(jars: list[Jar], folder: Path, progress: Callable[[str], None]) -> None:
    progress(f"Fetching Apache Kafka {kafka_version()}: {len(jars)} jars, once")
    for abandoned in folder.glob(".fetch-*"):  # of a process that was killed: we hold the lock, so nobody fetches now
        shutil.rmtree(abandoned, ignore_errors=True)
    # A repository of its own, beside the cache: jgo writes in place, so an interrupted download would stay behind as a
    # truncated jar in the user's Maven repository and be taken for whole ever after.
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as scratch:
        download = downloader(Path(scratch))
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            pending = [pool.submit(_fetch_one, jar, folder, download) for jar in jars]
            try:
                for done, future in enumerate(as_completed(pending), start=1):
                    future.result()
                    if done % 10 == 0 or done == len(jars):
                        progress(f"Fetching Apache Kafka {kafka_version()}: {done} of {len(jars)} jars")
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _fetch_one(jar: Jar, folder: Path, download: Callable[[Jar], Path]) -> None:
    path = download(jar)
    check(path, jar)
    path.replace(folder / jar.name)  # whole and checked, or not there


def downloader(scratch: Path) -> Callable[[Jar], Path]:
    """What fetches one jar into `scratch`, from Maven Central or from the repositories of the user's jgo settings."""
    try:
        import requests
        from jgo.config import GlobalSettings
        from jgo.maven import MavenContext
    except ImportError as error:
        raise LocalStackError(
            f"The local Kafka needs the package {error.name}. Install it with `pip install 'hooktape[local]'`, "
            "or name a broker that already runs in HOOKTAPE_KAFKA."
        ) from None
    maven = MavenContext(repo_cache=scratch, local_repos=[], remote_repos=GlobalSettings.load().repositories or None)

    def download(jar: Jar) -> Path:
        artifact = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return Path(artifact.resolve())
            except (requests.RequestException, RuntimeError, OSError) as error:
                if artifact.cached_path is not None:
                    artifact.cached_path.unlink(missing_ok=True)  # jgo takes what is there for whole
                if attempt == ATTEMPTS:
                    raise LocalStackError(
                        f"Couldn't fetch {jar.group}:{jar.artifact}:{jar.version}, a part of Apache Kafka, in {ATTEMPTS} "
                        f"attempts: {error}. Check the network (proxies are taken from the environment) and try again, "
                        "or name a broker that already runs in HOOKTAPE_KAFKA."
                    ) from error
        raise AssertionError("unreachable")

    return download
