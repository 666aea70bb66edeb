"""A circuit breaker for one HTTP endpoint: after several failures in a row nothing is sent but a probe now and then. Pure.

    closed ──k events in a row fail──▶ open ──pause──▶ half-open: one probe ──an answer──▶ closed
                                        ▲                             │
                                        └── no answer, twice as long ─┘

The pattern is Nygard's ("Release It!"). What is particular: the k failures are of k different events, since one event that the
endpoint chokes on is no outage; and a try made while it's open says nothing about its event, so it isn't held against it.
Times are of any clock that doesn't run backwards.
"""

# Five different events in a row: with one event in ten choking the endpoint, that happens once in 100,000.
_FAILURES = 5
# An endpoint that is being deployed is back within seconds; one that is down is looked at twice a minute.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
# Until a probe's answer is in, the others ask again this often, in seconds.
_GLANCE = 0.5


class Circuit:
    """One endpoint's state. Each try is `enter`, and when that lets it through, `answered`, `failed` or `abandoned`."""

    def __init__(self, failures: int = _FAILURES, first_pause: float = _FIRST_PAUSE, longest_pause: float = _LONGEST_PAUSE) -> None:
        self._most, self._first, self._longest = failures, first_pause, longest_pause
        self._failed: set[str] = set()
        self._pause = first_pause
        self._until: float | None = None
        self._probe: str | None = None

    @property
    def open(self) -> bool:
        """Whether only probes are let through."""
        return self._until is not None

    def enter(self, event: str, now: float) -> float:
        """0.0: send it. Otherwise the seconds to wait before asking again. `event` names the event."""
        if self._until is None:
            return 0.0
        if now < self._until:
            return self._until - now
        if self._probe is not None and self._probe != event:
            return _GLANCE
        self._probe = event
        return 0.0

    def answered(self) -> None:
        """The endpoint has answered, with whatever shows that it works: also to a refusal or a late answer."""
        self._failed.clear()
        self._until = self._probe = None
        self._pause = self._first

    def failed(self, event: str, sent: bool, now: float, after: float | None = None) -> float | None:
        """No answer, or a 5xx. `sent`: the request had gone out; `after`: the pause that the endpoint asked for.

        None: the failure counts as the event's own. Otherwise it doesn't, and the event waits so many seconds. A probe's counts
        only when it was sent: then the event may be the cause, and an event that the endpoint chokes on must end some day.
        """
        if self._until is None:
            self._failed.add(event)
            if len(self._failed) >= self._most:
                self._open(now, after)
            return None
        if self._probe == event:
            self._pause = min(self._pause * 2, self._longest)
            self._open(now, after)
            return None if sent else self._until - now
        return max(self._until - now, _GLANCE)

    def abandoned(self, event: str) -> None:
        """A try ended without a word on the endpoint. Was it the probe, another may look."""
        if self._probe == event:
            self._probe = None

    def _open(self, now: float, after: float | None) -> None:
        self._until, self._probe = now + max(self._pause, min(after or 0.0, self._longest)), None
