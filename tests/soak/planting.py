"""What plants of faults share: finding an event in a clean history, and changing what was seen of it."""

import msgspec

from hooktape.local.soak.history import Attempt, Command, History, Record

change = msgspec.structs.replace


def swap(entries: list, old: object, new: object) -> None:  # type: ignore[type-arg]
    entries[next(i for i, entry in enumerate(entries) if entry is old)] = new


def done(history: History, handler: str = "plain", skip: int = 50) -> Attempt:
    """A successful attempt somewhere in the middle, of an event that has one attempt and one copy."""
    once = [a for a in history.attempts if a.handler == handler and a.ok and a.attempt == 1
            and sum(b.wid == a.wid for b in history.attempts) == 1 and sum(r.wid == a.wid for r in history.records) == 1
            and sum(p.wid == a.wid for p in history.posts) == 1]  # fmt: skip
    return next(a for a in once if int(a.wid[1:]) >= skip)


def record_of(history: History, wid: str) -> Record:
    return next(r for r in history.records if r.wid == wid and r.kind == "log")


def forget(history: History, wid: str) -> None:
    """All that is known of a webhook but its posts."""
    for entries in (history.records, history.attempts, history.outcomes, history.rows):
        entries[:] = [entry for entry in entries if entry.wid != wid]  # type: ignore[attr-defined]


def command_of(history: History, job: str, verb: str) -> Command:
    return next(c for c in history.commands if (c.job, c.verb) == (job, verb))


def keep_generation(history: History, wanted: set[str]) -> None:
    """Forgets the replays but these. What had come of an event in one is again what had come of it before."""
    for index, outcome in enumerate(history.outcomes):
        if any(item.wid == outcome.wid and item.outcome == "succeeded" for item in history.items):
            live = [e for e in (*history.attempts, *history.rows) if e.wid == outcome.wid and not e.generation and getattr(e, "ok", True)]
            history.outcomes[index] = change(outcome, state="succeeded" if live else "dead")
    history.items[:] = [item for item in history.items if item.job in wanted]
    history.commands[:] = [command for command in history.commands if command.job in wanted]
    for entries in (history.attempts, history.rows, history.records):
        entries[:] = [e for e in entries if not e.generation or e.generation in wanted]  # type: ignore[attr-defined]
