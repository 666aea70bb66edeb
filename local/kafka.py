"""A real Apache Kafka on this machine: KRaft, one node, data on disk, from `pip install 'hooktape[local]'` alone.

`start`, `status` and `stop` work on a home folder; `broker` picks what the settings ask for.
"""

import base64
import os
import random
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from hooktape.errors import LocalStackError
from hooktape.local import jars, java
from hooktape.local.locks import POLL
from hooktape.local.supervise import EndedEarly, Launch, Lifetime, Server, State
from hooktape.settings import Settings

# Ready after 2 s on an idle machine, after 70 s on two cores with forty programs at work. Who gives up on a start that is merely slow, and
# begins anew, gets nowhere; a broker that ends is noticed at once.
READY_SECONDS = 180.0
PORT_ATTEMPTS = 3  # a free port can be taken between the look and Kafka's bind; three times in a row it isn't chance
PORTS = range(19_000, 30_000)  # below all systems' ports for outgoing connections (Linux: from 32,768; macOS: 49,152)
PORT_SECONDS = 1.0  # connections that a broker leaves behind held its port for up to 0.15 s
MAX_HEAP = "512m"  # 380 MB resident with it


def _silent(_: str) -> None:
    pass


class LocalKafka:
    """A running local broker. `stop`, or the end of this process, gives it up."""

    def __init__(self, server: Server, state: State, using: int | None) -> None:
        self.bootstrap = state.address
        self.pid = state.pid
        self.started = state.started
        self.lifetime = state.lifetime
        self.data = server.home / "data"
        self.log = server.log
        self._server = server
        self._using = using

    def stop(self, timeout: float = 30.0) -> None:
        """Lets go of the broker; it ends with the last of its users, and has ended when this returns if that was us.

        A detached broker stays: `stop(home)` ends it. `timeout` is in seconds. Raises LocalStackError when it won't end.
        """
        if self._using is not None:
            using, self._using = self._using, None
            self._server.leave(using, timeout)


def start(
    home: Path, *, lifetime: Lifetime, progress: Callable[[str], None] = _silent, jar_folder: Path | None = None,
    overrides: Mapping[str, str] | None = None,
) -> LocalKafka:  # fmt: skip
    """Starts the broker of `home`, or joins the one that already runs there, and waits until it answers a client.

    `parent`: it ends when the last process that started or joined it ends, kill -9 included. `detached`: it lives on until
    `stop(home)`. The jars come from `jar_folder` (default: the user's cache). `overrides`: broker properties instead of ours, where
    this call is what starts it. Raises LocalStackError: no Java, a jar that can't be fetched or isn't what the lock says, or a broker
    that doesn't get ready, with the last lines of its log.
    """
    server = _server(home)

    def launch() -> Launch:
        binary = java.find()
        class_path = jars.class_path(jar_folder or jars.default_folder(), progress)
        progress("Starting Apache Kafka")
        return _prepare(home, binary, class_path, overrides or {})

    for attempt in range(1, PORT_ATTEMPTS + 1):
        try:
            state, using = server.start(lifetime, launch, answers, READY_SECONDS)
            break
        except EndedEarly as error:
            if attempt == PORT_ATTEMPTS or "Address already in use" not in str(error):
                raise
    return LocalKafka(server, state, using)


def status(home: Path) -> LocalKafka | None:
    """The broker that runs in `home`, or None."""
    server = _server(home)
    state = server.state()
    return None if state is None else LocalKafka(server, state, None)


def stop(home: Path, timeout: float = 30.0) -> bool:
    """Stops the broker of `home`, whoever uses it; False when none ran. `timeout` in seconds. Raises LocalStackError."""
    return _server(home).stop(timeout)


@dataclass(frozen=True)
class Broker:
    """A broker to work with, and in words where it came from."""

    bootstrap: str
    origin: str


@contextmanager
def broker(
    settings: Settings, *, lifetime: Lifetime = "parent", progress: Callable[[str], None] = _silent
) -> Iterator[Broker]:
    """The broker that the settings ask for: the one that HOOKTAPE_KAFKA names, else a local one (from pip, or a container).

    A named one is neither started nor stopped nor looked at here. Raises LocalStackError when a local one can't be started.
    """
    if settings.kafka:
        yield Broker(settings.kafka, settings.origin("kafka"))
    elif settings.local_kafka == "container":
        from hooktape.local import container

        with container.broker(progress) as bootstrap:
            yield Broker(bootstrap, f"a container of {container.IMAGE}")
    else:
        local = start(settings.home / "kafka", lifetime=lifetime, progress=progress)
        try:
            yield Broker(local.bootstrap, f"the local Kafka in {local.data.parent}")
        finally:
            local.stop()


def answers(bootstrap: str, deadline: float) -> bool:
    """Whether a broker answers there with metadata that names it: the state in which clients can use it."""
    host, _, port = bootstrap.rpartition(":")
    try:
        # Before librdkafka has a look: a refused connection would put it into its reconnect back-off.
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    try:
        return bool(admin.list_topics(timeout=max(0.1, min(5.0, deadline - time.monotonic()))).brokers)
    except KafkaException:
        return False


def wait_for(bootstrap: str, seconds: float) -> bool:
    """Waits until a broker answers there; False when none did within `seconds`."""
    deadline = time.monotonic() + seconds
    while not answers(bootstrap, deadline):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL)
    return True


@dataclass(frozen=True)
class Ports:
    """TCP ports on the loopback address."""

    broker: int
    controller: int


def free_ports() -> Ports:
    """Two ports that nobody listens on at this moment. Raises LocalStackError when there are none.

    Not those that the kernel hands out for port 0: while the broker restarts, any client's outgoing connection may get its
    port; one that keeps trying to reconnect even connects to itself, and the port stays taken.
    """
    found = (port for port in random.sample(PORTS, len(PORTS)) if _is_free(port))
    try:
        return Ports(next(found), next(found))
    except StopIteration:
        raise LocalStackError(f"The local Kafka found no free port on 127.0.0.1 from {PORTS.start} to {PORTS[-1]}.") from None


def properties(ports: Ports, data: Path) -> dict[str, str]:
    """The broker's configuration, with the reason for each that isn't Kafka's default."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{ports.controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"PLAINTEXT://127.0.0.1:{ports.broker},CONTROLLER://127.0.0.1:{ports.controller}",
        "log.dirs": str(data),
        # One node: no second copy to wait for.
        "default.replication.factor": "1",
        "offsets.topic.replication.factor": "1",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # 50 each by default, made at the first group's first commit; one machine's groups fit in a few.
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.num.partitions": "4",
        # A power cut took every one of 61,456 acknowledged records without this, and none with it.
        "log.flush.interval.messages": "1",
        # A misspelt topic is an error, not a new topic with the wrong settings.
        "auto.create.topics.enable": "false",
        "message.max.bytes": str(8 * 1024 * 1024),  # the largest record (tape.clients.MAX_RECORD)
        # Back 3 s after a kill instead of 12: the controller forgets the dead session sooner. Five heartbeats fit into it.
        "broker.session.timeout.ms": "1000",
        "broker.heartbeat.interval.ms": "200",
        # Kafka waits 3 s for more members of a new group by default: good for fifty machines, a nuisance here.
        "group.initial.rebalance.delay.ms": "0",
        # A killed worker's partitions moved on after 3.0 to 3.4 s (45 s by default), and who joins learns of its share at its
        # next heartbeat (5 s by default). librdkafka sends them from a thread of its own: a slow handler isn't taken for dead.
        "group.consumer.session.timeout.ms": "3000",
        "group.consumer.heartbeat.interval.ms": "500",
        # Lower bounds, so that a test or a group's own setting may go down to a second.
        "group.consumer.min.session.timeout.ms": "1000",
        "group.consumer.min.heartbeat.interval.ms": "100",
        "group.min.session.timeout.ms": "1000",  # the same for the classic protocol
    }


def _server(home: Path) -> Server:
    return Server(home, "the local Kafka", home / "kafka.log")


def _prepare(home: Path, binary: Path, class_path: list[Path], overrides: Mapping[str, str]) -> Launch:
    ports, data = _ports(home), home / "data"
    base = [str(binary), f"-Xmx{MAX_HEAP}", "-XX:-UsePerfData"]
    classes = ["-cp", os.pathsep.join(map(str, class_path))]
    if not data.exists():
        # Made aside and renamed when whole: a format that is killed half-way leaves what no broker can use.
        draft = home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        _format([*base, *classes], _write(home / "format.properties", properties(ports, draft)))
        draft.rename(data)
    config = _write(home / "server.properties", {**properties(ports, data), **overrides})
    argv = [
        *base, "-XX:+ExitOnOutOfMemoryError", f"-XX:ErrorFile={home / 'java-crash.log'}", "-Djava.awt.headless=true",
        "-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        *classes, "kafka.Kafka", str(config),
    ]  # fmt: skip
    return Launch(argv, f"127.0.0.1:{ports.broker}")


def _ports(home: Path) -> Ports:
    """The ports of the last start where they're still free, so that other terminals keep their HOOKTAPE_KAFKA; else new ones."""
    remembered = home / "ports"
    if remembered.exists():
        old = [int(word) for word in remembered.read_text().split()]
        deadline = time.monotonic() + PORT_SECONDS
        while len(old) == 2:
            if all(_is_free(port) for port in old):
                return Ports(*old)
            if time.monotonic() > deadline:
                break
            time.sleep(POLL)
    new = free_ports()
    remembered.write_text(f"{new.broker} {new.controller}\n")
    return new


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As Kafka does: connections of the last run in TIME_WAIT don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _write(path: Path, values: dict[str, str]) -> Path:
    path.write_text("".join(f"{key}={value}\n" for key, value in values.items()))
    return path


def _format(base: list[str], config: Path) -> None:
    argv = [*base, "kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(config), "--standalone"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LocalStackError(f"Couldn't prepare Kafka's data folder for {config}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def _cluster_id() -> str:
    """As Kafka's own `random-uuid` makes it (a base64 UUID that doesn't look like an option), without a JVM for it."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()).startswith("-"):
        pass
    return text
