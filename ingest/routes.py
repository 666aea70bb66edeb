"""Which log a Shopify topic goes to: its own where one is provisioned, else the log of other topics."""

from collections.abc import Iterable

from hooktape import log, metrics
from hooktape.schemas import topics as shopify
from hooktape.tape.names import Names

_log = log.get("hooktape.ingest")
# Topics come from an unsigned header: the notes about unknown ones, and the labels, mustn't grow with inventions.
_MOST_NOTES = 256


class Routes:
    """Shopify topic → Kafka topic. `update` takes what the broker has; until then everything goes to the log of others."""

    def __init__(self, prefix: str) -> None:
        self._names = Names(prefix)
        self._logs: dict[str, str] = {}
        self._noted: set[str] = set()

    @property
    def topics(self) -> tuple[str, ...]:
        """Every Kafka topic that events may go to now."""
        return (*self._logs.values(), self._names.other)

    def update(self, existing: Iterable[str]) -> list[str]:
        """Takes the Kafka topics that exist; returns those that weren't known before."""
        here = set(existing)
        before = set(self._logs.values())
        logs = {topic: self._names.log(row.kafka_name) for topic, row in shopify.table().items()}
        self._logs = {topic: name for topic, name in logs.items() if name in here}
        self._noted -= self._logs.keys()
        return sorted(set(self._logs.values()) - before)

    def forget(self, kafka_topic: str) -> bool:
        """Drops a log that Kafka says isn't there any more: its events go to the log of others until it's back. False: there's none to go
        to, since it's that one."""
        self._logs = {topic: name for topic, name in self._logs.items() if name != kafka_topic}
        return kafka_topic != self._names.other

    def of(self, topic: str) -> str:
        """The log of a Shopify topic. One that isn't provisioned is counted, and logged the first time."""
        found = self._logs.get(topic)
        if found is not None:
            return found
        metrics.UNPROVISIONED.inc()
        if topic not in self._noted and len(self._noted) < _MOST_NOTES:
            self._noted.add(topic)
            _log.warning("a topic has no log of its own: add it to HOOKTAPE_TOPICS and run `hooktape topics apply`",
                         topic=topic, recorded_in=self._names.other)  # fmt: skip
        return self._names.other


def label(topic: str) -> str:
    """The topic as a metric's label: Shopify's own names, and `other` for the rest."""
    return topic if topic in shopify.table() else shopify.OTHER
