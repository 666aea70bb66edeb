"""How a worker runs: what isn't a setting of the project but a knob of one worker."""

from dataclasses import dataclass

from hooktape.consumers.births import BEGINNING, Start


@dataclass(frozen=True, slots=True)
class Options:
    """Times in seconds."""

    start: Start = BEGINNING
    """Where a group begins on log topics that it has never committed. Its own topics always from their beginning."""
    in_flight: int = 1000
    """Handlers that run at once in this process, whatever their own limits add up to."""
    buffer: int = 5000
    """Log records held in memory; fetching stops there and goes on at half. Shopify's bodies are mostly under 10 KiB."""
    side_buffer: int = 500
    """The same for retry topics, and for the replay lane."""
    quick_tries: int = 2
    """Tries in the lane, before a retry topic; 0 turns them off."""
    lease: float = 3.0
    """How long after a worker's sudden death nobody takes over its partitions, once Kafka has noticed. A worker that can't renew it
    (a third of it goes by between two tries) starts nothing more until it can. Machines' clocks must agree to within a second."""
    sweep_after: float = 600.0
    """How long after its time an event that waits for a retry is looked for: where its retry record is lost, it's fetched from the
    tape again. Retry topics are late by a delay's tenth, and while they are behind nothing is looked for, however late it is."""
    revoke_within: float = 10.0
    """How long a rebalance waits for events that run. The broker waits for five minutes (max.poll.interval.ms)."""
    stop_within: float = 15.0
    """Docker kills 10 s after SIGTERM unless told otherwise, Kubernetes 30 s."""
