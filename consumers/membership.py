"""How a source is its group's member: with which protocol, and when its client has to be closed and another one made.

On the thread that owns the consumer. A client is made anew for one of three reasons: the broker hasn't got KIP-848's protocol; the group
has forgotten the member, and the client doesn't notice; partitions are read by nobody (`vigil.py`).
"""

import json
from typing import Any

from confluent_kafka import KafkaError

from hooktape import log, metrics
from hooktape.consumers import protocol
from hooktape.consumers.commits import Committer
from hooktape.consumers.deliveries import Plan
from hooktape.settings import Settings

_log = log.get("hooktape.consumers")


class Anew(Exception):
    """The client has to be made anew. `why`: `protocol`, `forgotten` or `unread`; `missing` names what nobody reads."""

    def __init__(self, why: str, missing: str = "") -> None:
        super().__init__(why)
        self.why, self.missing = why, missing


class Membership:
    """For one source; one that only follows has nothing to join."""

    def __init__(self, settings: Settings, plan: Plan) -> None:
        self.classic = plan.member and settings.kafka_properties.get("group.protocol") == "classic"
        self._settings, self._plan = settings, plan
        self._silence, self._unheard_of = protocol.Silence(), False

    def properties(self) -> dict[str, Any]:
        """What its client is told of the group."""
        if not self._plan.member:
            return {"group.protocol": "classic"}
        # All partitions with one number must go to one worker (order per resource, whatever topic it comes by). Of Kafka's
        # assignors only `range` does that: `uniform`, KIP-848's default, spread five topics over three workers every which way.
        # No group.instance.id: with KIP-848 a static member that comes back after a crash is fenced for good.
        ours = {"group.protocol": "classic", "partition.assignment.strategy": "range"} if self.classic else {
            "group.protocol": "consumer", "group.remote.assignor": "range"}  # fmt: skip
        ours = {key: value for key, value in ours.items() if key not in self._settings.kafka_properties}
        return ours if self.classic else ours | {"statistics.interval.ms": protocol.STATISTICS_MS, "stats_cb": self._on_statistics}

    def is_refused(self, error: KafkaError) -> bool:
        """Whether an error says that the broker doesn't speak its protocol."""
        return not self.classic and protocol.refuses_kip848(error)

    def check(self, committer: Committer) -> None:
        """To be called between two polls. Raises Anew."""
        if self._unheard_of:
            raise Anew("protocol")
        if committer.is_disowned():
            raise Anew("forgotten")

    def tell(self, reason: Anew) -> None:
        """Says that the client is made anew, and why."""
        group = self._plan.group
        if reason.why == "protocol":
            _log.info("the broker has no KIP-848 groups: falling back to the classic protocol", group=group)
            return
        metrics.REJOINS.labels(group, reason.why).inc()
        if reason.why == "unread":
            _log.error("partitions are read by nobody, though workers live: this one joins the group anew, so that they're divided anew",
                       group=group, missing=reason.missing)  # fmt: skip
        else:
            _log.error("the group has forgotten this worker, whose client doesn't notice: it joins anew", group=group)

    def renew(self, reason: Anew) -> None:
        """The old client is closed: what the next one is told."""
        if reason.why == "protocol":
            self.classic, self._unheard_of = True, False

    def _on_statistics(self, text: str) -> None:
        if not self._silence.over:
            self._unheard_of = self._silence.lasts(json.loads(text))
