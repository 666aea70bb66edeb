"""Names of Kafka topics: the only place that builds or takes apart one."""

import contextlib
import re
from dataclasses import dataclass
from enum import StrEnum

from hooktape.errors import SettingsError, UsageError
from hooktape.schemas.topics import OTHER
from hooktape.times import format_duration, parse_duration

# What Kafka allows in a topic's name, less the dot in groups: it separates the words of ours.
_GROUP = re.compile(r"[a-zA-Z0-9_-]{1,100}")


class Kind(StrEnum):
    """What a topic of ours is for."""

    LOG = "log"
    RETRY = "retry"
    DLQ = "dlq"
    REPLAY = "replay"


@dataclass(frozen=True, slots=True)
class TopicName:
    """A topic's name taken apart: `group` is "" for logs, `delay` (seconds) is set on retry topics only."""

    kind: Kind
    shopify: str = ""
    group: str = ""
    delay: float = 0.0


@dataclass(frozen=True, slots=True)
class Names:
    """The names under one prefix."""

    prefix: str = "hooktape"

    def log(self, kafka_name: str) -> str:
        """The log of a Shopify topic, by its name on Kafka (`orders.create`)."""
        return f"{self.prefix}.log.{kafka_name}"

    @property
    def other(self) -> str:
        """The log of every topic that has none of its own."""
        return self.log(OTHER)

    def retry(self, group: str, delay: float) -> str:
        """The retry topic of a group for one delay in seconds; one delay per topic, so its head is always next due."""
        return f"{self.prefix}.retry.{group}.{format_duration(delay)}"

    def dlq(self, group: str) -> str:
        """The dead-letter topic of a group."""
        return f"{self.prefix}.dlq.{group}"

    def replay(self, group: str) -> str:
        """The replayer's own lane into a group."""
        return f"{self.prefix}.replay.{group}"

    def parse(self, topic: str) -> TopicName | None:
        """What a topic is, or None when it isn't one of ours under this prefix."""
        if not topic.startswith(f"{self.prefix}."):
            return None
        kind, _, rest = topic.removeprefix(f"{self.prefix}.").partition(".")
        if not rest:
            return None
        match kind:
            case Kind.LOG:
                return TopicName(Kind.LOG, shopify=rest)
            case Kind.DLQ | Kind.REPLAY if _GROUP.fullmatch(rest):
                return TopicName(Kind(kind), group=rest)
            case Kind.RETRY:
                group, _, delay = rest.rpartition(".")
                # Somebody else's topic may look like one of ours: it isn't an error, it just isn't ours.
                with contextlib.suppress(UsageError):
                    return TopicName(Kind.RETRY, group=group, delay=parse_duration(delay)) if _GROUP.fullmatch(group) else None
        return None


def check_group(group: str) -> str:
    """`group`, or SettingsError: it becomes part of topic names."""
    if not _GROUP.fullmatch(group):
        raise SettingsError(f"{group!r} can't be a group's name: use letters, digits, - and _, at most 100.")
    return group
