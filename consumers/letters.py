"""Retry and dead-letter records: the value and key as they were fetched, with headers that tell where from and why. Pure."""

from dataclasses import dataclass

from hooktape.consumers.causes import error_group, error_message, error_type, stack
from hooktape.consumers.classify import Disposition
from hooktape.schemas.event import Coordinates, Event, Replay
from hooktape.tape import headers
from hooktape.tape.headers import Failure, Headers, Packed

# Headers of ours that aren't about this hop and travel on.
_KEPT = (headers.SHOP, headers.TOPIC, headers.WEBHOOK_ID, headers.SOURCE, headers.RELABELLED, headers.REDRIVES)


@dataclass(frozen=True, slots=True)
class Letter:
    """A record to be produced; `value` and `key` byte for byte as fetched."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Packed


def failure_of(error: BaseException, disposition: Disposition, attempts: int, first: float | None, now: float) -> Failure:
    """What the record tells of the tries so far; times in epoch seconds."""
    first_us = int((first if first is not None else now) * 1e6)
    return Failure(attempts, first_us, int(now * 1e6), disposition.value, error_type(error), error_message(error), stack(error),
                   error_group(error))  # fmt: skip


def letter(topic: str, raw: "Raw", event: Event | None, origin: Coordinates, failure: Failure | None, replay: Replay | None,
           due: float | None = None) -> Letter:  # fmt: skip
    """The record for the next hop. `event` None: it couldn't be decoded. `failure` None: it was never tried, and waits behind
    another. `due` in epoch seconds, for a retry topic."""
    ours = headers.read(raw.headers)
    new: Headers = {name: ours[name] for name in _KEPT if name in ours}
    new |= headers.of_event(event) if event is not None else {}
    new |= headers.of_origin(origin) | (failure.headers() if failure is not None else {headers.DISPOSITION: Disposition.BEHIND.value})
    new |= headers.of_replay(replay) if replay is not None else {}
    new |= {headers.DUE: str(int(due * 1e6))} if due is not None else {}
    return Letter(topic, raw.key, raw.value, headers.replaced(raw.headers, new))


@dataclass(frozen=True, slots=True)
class Raw:
    """A record's bytes as they were fetched."""

    key: bytes | None
    value: bytes | None
    headers: Packed
