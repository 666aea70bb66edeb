"""The whole history of an event in a group: recorded, failed, dead, handed over, discarded, and what it is now."""

from collections.abc import Iterator
from dataclasses import dataclass

from hooktape.ledger.ledger import Ledger
from hooktape.ledger.letters import Letter
from hooktape.replayer import history as jobs
from hooktape.times import iso

_DEEDS = {"dlq discard": "discarded", "dlq restore": "restored"}


@dataclass(frozen=True, slots=True)
class Moment:
    """Something that happened to an event. `at` is epoch seconds, `what` a word or two, `detail` a sentence for people."""

    at: float
    what: str
    detail: str = ""


def history(ledger: Ledger, letter: Letter) -> list[Moment]:
    """Everything that the ledger knows of the event in the letter's group, the first first.

    Each death is a letter that retention has left; one whose letter is gone is told by the outcome alone. A try that a retry
    followed left nothing but its number.
    """
    return sorted(_moments(ledger, letter), key=lambda moment: moment.at)


def _moments(ledger: Ledger, letter: Letter) -> Iterator[Moment]:
    e, group = letter.entry, letter.group
    if e.triggered_at is not None:
        yield Moment(e.triggered_at / 1_000_000, "triggered", "by Shopify's clock")
    if e.kafka_topic:
        yield Moment(e.received_at / 1_000_000, "recorded", f"on the tape at {letter.origin}")
    letters = ledger.letters.all_of(group, letter.key.id) or [letter]
    yield Moment(letters[0].first_failed_at, "failed", "for the first time")
    for each in letters:
        tries = f"{each.entry.attempts} {'try' if each.entry.attempts == 1 else 'tries'}"
        of_job = f" in job {each.job_id}" if each.job_id else ""
        redriven = f", after {each.redrives} redrives" if each.redrives else ""
        why = f"{each.disposition or 'dead'}: {each.entry.error_type} {each.entry.error_message}".rstrip()
        yield Moment(each.died_at, "dead", f"after {tries}{of_job}{redriven}; {why}")
    for deed in ledger.outcomes.deeds(group, letter.key):
        yield Moment(deed.at, _DEEDS.get(deed.action, deed.action), f"by {deed.who}: {deed.reason}")
    for row in jobs.replays(ledger, e):
        job = ledger.jobs.get(row["id"])
        if job is None or job.group != group:
            continue
        ended = f", {str(row['outcome']).replace('_', ' ')}" if row["outcome"] else ""
        decision = str(row["decision"]).replace("_", " ")
        yield Moment(job.started_at or job.created_at, str(job.kind) if job.started_at else f"{job.kind} planned",
                     f"job {job.id} by {job.who}{f' ({job.reason})' if job.reason else ''}: {decision}{ended}")  # fmt: skip


def shown(moment: Moment) -> dict[str, str]:
    """For a table or JSON."""
    return {"at": iso(int(moment.at * 1_000_000)), "what": moment.what, "detail": moment.detail}
