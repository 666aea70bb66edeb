"""Where a group begins on a partition that it has never committed: the beginning, now, or a time."""

from dataclasses import dataclass

from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec

from hooktape.errors import UsageError
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.times import micros, parse_time

_TIMEOUT = 10.0


@dataclass(frozen=True, slots=True)
class Start:
    """`at_ms` None: the beginning; -1: now; else the first record appended at or after it (epoch milliseconds)."""

    at_ms: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Start":
        """`beginning`, `now`, or a time as `parse_time` takes it. Raises UsageError."""
        if text == "beginning":
            return BEGINNING
        if text in ("now", "end"):
            return NOW
        try:
            return cls(micros(parse_time(text)) // 1000)
        except UsageError:
            raise UsageError(f"--from {text!r}: write beginning, now, or a time (2026-11-20T03:00Z, 2h).") from None


BEGINNING = Start()
NOW = Start(-1)


def resolve(settings: Settings, partitions: list[TopicPartition], start: Start) -> dict[tuple[str, int], int]:
    """Partition → the offset that `start` means there. Raises KafkaException."""
    found = _ask(settings, partitions, _spec(start))
    late = [p for p in partitions if found[p.topic, p.partition] < 0]
    # Nothing as late as the time asked for: that's the end.
    return found | (_ask(settings, late, _spec(NOW)) if late else {})


def _spec(start: Start) -> OffsetSpec:
    spec: OffsetSpec = OffsetSpec.latest() if start.at_ms == -1 else OffsetSpec.earliest()  # type: ignore[no-untyped-call]
    return spec if start.at_ms in (None, -1) else OffsetSpec.for_timestamp(start.at_ms)


def _ask(settings: Settings, partitions: list[TopicPartition], spec: OffsetSpec) -> dict[tuple[str, int], int]:
    asked = {TopicPartition(p.topic, p.partition): spec for p in partitions}

    def question() -> dict[tuple[str, int], int]:
        # A client that has once heard of no leader goes on saying so: each try has its own.
        admin = clients.admin(settings)
        answers = admin.list_offsets(asked, request_timeout=_TIMEOUT)
        return {(p.topic, p.partition): future.result().offset for p, future in answers.items()}

    # A topic that was made a moment ago: the broker that answers may not know yet that it leads it.
    return clients.patiently(question)
