"""How a source is a member of its group, and when its client has to be abandoned and another one made.

On the thread that owns the consumer. There are four reasons for another client: the broker hasn't got KIP-848's protocol; the group has
forgotten the member, and the client doesn't notice; the client has lost every broker (`clients.Solitude`); or partitions are read by
nobody (`vigil.py`). The first client is closed by a thread of its own, since one without a coordinator may never come back from it
(librdkafka#3740, open).
"""

import json
import threading
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException

from hooktape import log, metrics
from hooktape.consumers import protocol
from hooktape.consumers.commits import Committer
from hooktape.consumers.deliveries import Plan
from hooktape.settings import Settings
from hooktape.tape import clients

_log = log.get("hooktape.consumers")


class Anew(Exception):
    """Another client is needed. `why`: `protocol`, `forgotten`, `alone` or `unread`; `missing` names what nobody reads."""

    def __init__(self, why: str, missing: str = "") -> None:
        super().__init__(why)
        self.why, self.missing = why, missing


class Membership:
    """For one source, member or follower."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self.classic = not plan.member or settings.kafka_properties.get("group.protocol") == "classic"
        self._settings, self._plan = settings, plan
        self._silence, self._unheard_of = protocol.Silence(), False
        self._solitude = clients.Solitude()

    def properties(self) -> dict[str, Any]:
        """What the next client is told of the group, and what it's to tell."""
        self._solitude = clients.Solitude()
        told = self._solitude.properties() | {"stats_cb": self._on_statistics}
        if not self._plan.member:
            return told | {"group.protocol": "classic"}
        # All partitions with one number must go to one worker (order per resource, whatever topic it comes by). Of Kafka's
        # assignors only `range` does that: `uniform`, KIP-848's default, spread five topics over three workers every which way.
        # No group.instance.id: with KIP-848 a static member that comes back after a crash is fenced for good.
        ours = {"group.protocol": "classic", "partition.assignment.strategy": "range"} if self.classic else {
            "group.protocol": "consumer", "group.remote.assignor": "range"}  # fmt: skip
        return told | {key: value for key, value in ours.items() if key not in self._settings.kafka_properties}

    def is_refused(self, error: KafkaError) -> bool:
        """Whether an error says that the broker doesn't speak its protocol."""
        return not self.classic and protocol.refuses_kip848(error)

    def check(self, committer: Committer) -> None:
        """To be called between two polls. Raises Anew."""
        if self._unheard_of:
            raise Anew("protocol")
        if self._solitude.lasts:
            raise Anew("alone")
        if committer.is_disowned():
            raise Anew("forgotten")

    def leave(self, consumer: Consumer, reason: Anew) -> None:
        """Says why, and has the client leave. Nobody else may touch it after this."""
        group = self._plan.group
        if reason.why == "protocol":
            _log.info("the broker has no KIP-848 groups: falling back to the classic protocol", group=group)
            self.classic, self._unheard_of = True, False
        else:
            metrics.REJOINS.labels(group, reason.why).inc()
        if reason.why == "unread":
            _log.error("partitions are read by nobody, though workers live: this one joins the group anew, so that they're divided anew",
                       group=group, missing=reason.missing)  # fmt: skip
        elif reason.why == "forgotten":
            _log.error("the group has forgotten this worker, whose client doesn't notice: it's made anew", group=group)
        elif reason.why == "alone":
            _log.error("the client was told of no broker, and looks for none any more: it's made anew", group=group)
        threading.Thread(target=_close, args=(consumer, group), name="hooktape-leaving", daemon=True).start()

    def _on_statistics(self, text: str) -> None:
        self._solitude.hear(text)
        if not self.classic and not self._silence.over:
            self._unheard_of = self._silence.lasts(json.loads(text))


def only_on(thread: threading.Thread, callback: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """The callback, deaf to other threads: a client that was abandoned is closed by one, and has nothing to say any more."""
    return lambda first, second: callback(first, second) if threading.current_thread() is thread else None


def _close(consumer: Consumer, group: str) -> None:
    try:
        consumer.close()
    except (KafkaException, RuntimeError) as error:
        _log.warning("the consumer didn't close cleanly", group=group, error=str(error))
