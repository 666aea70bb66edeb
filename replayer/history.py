"""One event's history: what each group made of it, and the jobs that handed it over."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hooktape.errors import NothingMatched, UsageError
from hooktape.ledger.catalogue import Entry
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.naming import webhook
from hooktape.schemas.event import Coordinates

_JOBS = 200


@dataclass(frozen=True, slots=True)
class Outcome:
    """An event in one group."""

    group: str
    status: str
    attempts: int
    error_type: str
    error_group: str
    error_message: str


def find_event(ledger: Ledger, webhook_id: str, shop: str | None = None) -> Entry:
    """The one event with this webhook id, or whose id begins so. Raises NothingMatched, UsageError for several."""
    found = webhook(ledger, webhook_id, shop)
    if not found:
        raise NothingMatched(f"No event on the tape has the webhook id {webhook_id}. `hooktape events find` finds by other names.")
    if len(ids := sorted({entry.webhook_id for entry in found})) > 1:
        raise UsageError(f"{len(ids)} webhook ids begin with {webhook_id}: {', '.join(ids[:10])}{' …' if len(ids) > 10 else ''}.")
    if len({entry.shop for entry in found}) > 1:
        raise UsageError(f"Several shops have the webhook id {webhook_id}: say --shop, one of {', '.join(sorted(e.shop for e in found))}.")
    return found[0]


def outcomes(ledger: Ledger, entry: Entry, groups: Iterable[str]) -> list[Outcome]:
    """What each group made of the event."""
    found = []
    for group in groups:
        for e in ledger.catalogue.get(entry.webhook_id, entry.shop, group):
            found.append(Outcome(group, str(e.status), e.attempts, e.error_type, e.error_group, e.error_message))
    return found


def replays(ledger: Ledger, entry: Entry) -> list[dict[str, Any]]:
    """The latest jobs that selected the event, with what was decided and what came of it."""
    found = []
    places: dict[str, list[Coordinates]] = {}
    for job in ledger.jobs.list(_JOBS):
        if job.group not in places:
            letters = ledger.letters.all_of(job.group, entry.key.id)
            of_letters = [at for letter in letters for at in (letter.origin, letter.at) if at is not None]
            places[job.group] = list(dict.fromkeys([Coordinates(entry.kafka_topic, entry.partition, entry.offset), *of_letters]))
        for item in ledger.jobs.of_event(job.id, entry.key.id, places[job.group]):
            found.append({"id": job.id, "kind": str(job.kind), "group": job.group, "who": job.who, "reason": job.reason,
                          "decision": item.decision, "outcome": item.outcome, "error": item.error})  # fmt: skip
    return found


