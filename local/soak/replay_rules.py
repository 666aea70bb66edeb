"""Rule 12: what a replay was asked, what it decided, what it did and what it said are one and the same. Pure.

All of it is worked out again from outside: from the tape, the letters, the handlers' effects and the records in the replay lane.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence

from hooktape.local.soak.history import Asked, Command, Item, Record
from hooktape.local.soak.view import EXCUSE_SECONDS, SLACK_SECONDS, Effect, Replay, View, Violation

RUN = "run"
_RECORD_SECONDS = EXCUSE_SECONDS
"""What has happened is in the ledger so long after it at the latest, unless something was away or died."""
_REDRIVES = 3
"""An event that died so often after redrives waits for `--again`."""


def account(view: View) -> Iterator[Violation]:
    """account: a plan's items and their outcomes aren't the same, what was handed over has no outcome, or the operator was told
    another sum than the ledger's."""
    handed = {(record.generation, record.wid) for record in view.history.records if record.kind == "replay"}
    for replay in view.replays.values():
        for wid, times in Counter(item.wid for item in replay.items).items():
            if times > 1:
                yield view.breach("account", f"replay {replay.job} counts {wid} {times} times", None)
        open_ = [item.wid for item in replay.items if item.decision == RUN and not item.outcome]
        if open_ and all(item.complete for item in replay.items):
            what = f"replay {replay.job} says complete and has no outcome for {len(open_)} events, {open_[0]} first"
            yield view.breach("account", what, None)
        elif lost := [wid for wid in open_ if (replay.job, wid) in handed]:
            what = f"replay {replay.job}: {len(lost)} events were handed over and have no outcome, {lost[0]} first"
            yield view.breach("account", what, None)
        for command in replay.commands:
            if wrong := _told_wrong(command, replay):
                yield view.breach("account", f"`{command.verb}` of replay {replay.job} {wrong}", command.t1)


def _told_wrong(command: Command, replay: Replay) -> str:
    """How what a command printed, and its exit code, differ from what the ledger holds; "" where they don't."""
    if command.selected is not None and command.selected != len(replay.items):
        return f"told of {command.selected} selected events, and it has {len(replay.items)}"
    if command.told and sum(command.told.values()) != len(replay.items):
        return f"told of {sum(command.told.values())} events in all, and it has {len(replay.items)}"
    if command.verb == "plan":
        kept = Counter(item.decision for item in replay.items)
    elif command.told.get("in_flight") or command.told.get("not_sent"):
        # It ended before its events did, and said so.
        return "ended with 0 before its events did" if command.code == 0 and command.state != "paused" else ""
    else:
        kept = Counter(map(_part, replay.items))
    told = {name: number for name, number in command.told.items() if number}
    if command.told and told != dict(kept):
        return f"told {told}, and the ledger holds {dict(kept)}"
    ended = command.told and command.verb != "plan" and command.state != "paused"
    if ended and command.code == 0 and not all(item.complete for item in replay.items):
        return "ended with 0, and the job isn't complete"
    return ""


def _part(item: Item) -> str:
    """The line of a printed account that counts an item."""
    if item.decision != RUN:
        return f"not_run:{item.decision}"
    return item.outcome if item.outcome in ("succeeded", "failed_again") else f"skipped:{item.outcome}"


def plans(view: View) -> Iterator[Violation]:
    """ran-a-skip, effect-outside-plan, handed-over-outside-plan: what ran, or was handed over, wasn't what was planned."""
    for effect in view.effects:
        if effect.generation:
            item = view.item(effect.generation, effect.wid)
            if item is None:
                what = f"{effect.wid} ran for replay {effect.generation}, which hasn't got it"
                yield view.breach("effect-outside-plan", what, effect.at)
            elif item.decision != RUN:
                what = f"{effect.wid} ran for replay {effect.generation}, which skips it ({item.decision})"
                yield view.breach("ran-a-skip", what, effect.at)
    for record in view.history.records:
        if record.kind == "replay":
            item = view.item(record.generation, record.wid)
            if item is None or item.decision != RUN:
                what = f"{record.wid} was handed over for replay {record.generation}, which {'skips it' if item else 'has no such event'}"
                yield view.breach("handed-over-outside-plan", what, record.at)


def outcomes(view: View) -> Iterator[Violation]:
    """wrong-outcome: a replay says of an event what didn't happen, or happened to it otherwise."""
    for replay in view.replays.values():
        done = view.effects_of.get(replay.job, {})
        for item in replay.items:
            if item.decision != RUN:
                continue
            effects = done.get(item.wid, [])
            evidence = _OUTCOMES.get(item.outcome)
            if evidence is not None and not evidence(view, item):
                what = f"replay {item.job} says that {item.wid} {_WORDS.get(item.outcome, item.outcome)}, and nothing shows it"
                yield view.breach("wrong-outcome", what, effects[0].at if effects else None)
            elif effects and item.outcome != "succeeded" and not any(_unrecorded(view, effect) for effect in effects):
                what = f"{item.wid} was done for replay {item.job}, which says {item.outcome or 'nothing'} of it"
                yield view.breach("wrong-outcome", what, effects[0].at)


_WORDS = {"failed_again": "failed again", "already_done": "had been done already", "held": "was in a retry topic"}


def _letters(view: View, kind: str, item: Item, until: float = float("inf")) -> Sequence[Record]:
    return [record for record in view.letters.get((kind, item.group, item.wid), ()) if record.at <= until]


def _newer_done(view: View, item: Item, until: float = float("inf")) -> bool:
    """Whether a newer state of its resource had been applied by then, by the handler that takes it."""
    webhook = view.webhooks.get(item.wid)
    if webhook is None or (handler := view.by_topic.get((item.group, webhook.first.topic))) is None:
        return False
    first = webhook.first
    return any(at <= until and version > first.version
               for at, version in view.applied.get((item.group, handler.name, first.lane, first.resource), ()))  # fmt: skip


_OUTCOMES: dict[str, Callable[[View, Item], bool]] = {
    "succeeded": lambda view, item: bool(view.effects_of.get(item.job, {}).get(item.wid)),
    "failed_again": lambda view, item: any(letter.generation == item.job for letter in _letters(view, "dlq", item)),
    "already_done": lambda view, item: (item.group, item.wid) in view.done_at,
    "superseded": _newer_done,
    "held": lambda view, item: bool(_letters(view, "retry", item)),
    "dead": lambda view, item: bool(_letters(view, "dlq", item)),
    "discarded": lambda view, item: view.states.get((item.group, item.wid)) == "discarded",
    "gone": lambda view, item: item.wid not in view.copies,
}
"""Outcome → whether anything seen from outside bears it out."""


def _unrecorded(view: View, effect: Effect) -> bool:
    """Whether something may have kept an effect from being recorded: its process died or froze, or its partition had moved."""
    return (view.cut_short(effect.pid, effect.start, effect.at + EXCUSE_SECONDS) is not None
            or view.frozen_out(effect.pid, effect.start, effect.at) is not None
            or view.away("postgres", effect.start, effect.at + EXCUSE_SECONDS)
            or view.regrouped(effect.start, effect.at + EXCUSE_SECONDS))  # fmt: skip


def decisions(view: View) -> Iterator[Violation]:
    """wrong-decision: a plan says of an event what wasn't so when it was made."""
    for replay in view.replays.values():
        if (made := replay.plan) is None or made.asked is None:
            continue
        for item in replay.items:
            evidence = _DECISIONS.get(item.decision)
            if evidence is not None and not evidence(view, item, made):
                what = f"replay {item.job} decided {item.decision} of {item.wid}, and nothing shows it"
                yield view.breach("wrong-decision", what, made.t1)


def _may_run(view: View, item: Item, made: Command) -> bool:
    """Not what the group had finished, and the ledger knew: unless that was asked for, or it died since."""
    assert made.asked is not None
    effects = view.done_at.get((item.group, item.wid), ())
    before = [effect for effect in effects if effect.at < made.t0 - _RECORD_SECONDS]
    if made.asked.forced or not before:
        return True
    last = before[-1]
    failed = [letter for kind in ("retry", "dlq") for letter in _letters(view, kind, item, made.t1) if letter.at > last.at - SLACK_SECONDS]
    return bool(failed) or _unrecorded(view, last) or view.away("postgres", last.at, made.t0)


def _was_done(view: View, item: Item, made: Command) -> bool:
    # Since when an event is stale, nobody tells; that it is, and why, is another rule's.
    return (any(effect.at <= made.t1 for effect in view.done_at.get((item.group, item.wid), ()))
            or view.states.get((item.group, item.wid)) in ("stale", "discarded"))  # fmt: skip


def _was_held(view: View, item: Item, made: Command) -> bool:
    webhook = view.webhooks.get(item.wid)
    return webhook is not None and any(at <= made.t1 for at in view.letters_of_lane.get((item.group, webhook.first.lane), ()))


_DECISIONS: dict[str, Callable[[View, Item, Command], bool]] = {
    RUN: _may_run,
    "done": _was_done,
    "superseded": lambda view, item, made: _newer_done(view, item, made.t1),
    "waiting": lambda view, item, made: bool(_letters(view, "retry", item, made.t1)),
    "held": _was_held,
    "needs_again": lambda view, item, made: sum(bool(r.generation) for r in _letters(view, "dlq", item, made.t1)) >= _REDRIVES,
    # Nothing of a soak is that old, forged, or refused by its handler.
    "gone": lambda view, item, made: item.wid not in view.copies,
    "unverified": lambda view, item, made: False,
    "refused": lambda view, item, made: False,
}
"""Decision → whether it can have been so between the plan's beginning and its end."""


def selections(view: View) -> Iterator[Violation]:
    """missing-from-plan, outside-selection: a plan lacks an event that it was asked for, or holds one that it wasn't.

    What came while the plan was made may be in it or not. Of an event's copies each may be the one that counts.
    """
    for replay in view.replays.values():
        if (made := replay.plan) is None or made.asked is None:
            continue
        planned = {item.wid for item in replay.items}
        for wid, copies in view.copies.items():
            fits = [_in_range(made.asked, copy) for copy in copies]
            dead = made.asked.dead or made.asked.redrive
            if wid in planned:
                if not any(fits) or (dead and not _died(view, wid, made.t1)):
                    yield view.breach("outside-selection", f"replay {replay.job} holds {wid}, which wasn't asked for", made.t1)
            elif all(fits) and copies[0].at < made.t0 - SLACK_SECONDS and (not dead or _surely_dead(view, wid, made)):
                yield view.breach("missing-from-plan", f"replay {replay.job} lacks {wid}, which was asked for", made.t1)


def _in_range(asked: Asked, record: Record) -> bool:
    return ((not asked.topics or record.topic in asked.topics) and (asked.since is None or record.received >= asked.since)
            and (asked.until is None or record.received < asked.until))  # fmt: skip


def _died(view: View, wid: str, until: float) -> bool:
    return any(letter.at <= until + SLACK_SECONDS for group in view.groups for letter in view.letters.get(("dlq", group, wid), ()))


def _surely_dead(view: View, wid: str, made: Command) -> bool:
    """Whether it had died, the ledger knew, and nothing had touched it since."""
    for group in view.groups:
        letters = view.letters.get(("dlq", group, wid), [])
        last = max((letter.at for letter in letters if letter.at <= made.t1), default=None)
        if last is None or last > made.t0 - _RECORD_SECONDS or view.states.get((group, wid)) == "discarded":
            continue
        # A replay may have ended without a try: a newer version had succeeded since it was planned.
        touched = (*(attempt.start for attempt in view.tries.get((group, wid), ())), *view.handed.get((group, wid), ()))
        again = any(last < at <= made.t1 for at in touched)
        unsure = view.regrouped(last, last + _RECORD_SECONDS) or view.away("postgres", last, made.t0)
        if not again and not unsure:
            return True
    return False


def order(view: View) -> Iterator[Violation]:
    """out-of-order: within one replay, the first effects of a lane aren't in the order in which its events were received.

    One that died, was skipped or superseded in the replay has no effect there, so whatever overtakes it is right.
    """
    spans = {wid: (min(c.received for c in copies), max(c.received for c in copies)) for wid, copies in view.copies.items()}
    for generation, of_wid in view.effects_of.items():
        lanes: dict[tuple[str, str], list[Effect]] = defaultdict(list)
        for wid, effects in of_wid.items():
            if effects[0].handler.ordered and wid in spans:
                lanes[effects[0].handler.group, effects[0].lane].append(effects[0])
        for run in lanes.values():
            ahead: Effect | None = None
            for effect in sorted(run, key=lambda effect: effect.at):
                if ahead is not None and spans[effect.wid][1] < spans[ahead.wid][0]:
                    what = (f"{effect.lane}: replay {generation} did {effect.wid} (by {effect.pid}) after {ahead.wid}, which is younger "
                            f"(by {ahead.pid})")  # fmt: skip
                    yield view.breach("out-of-order", what, effect.at)
                if ahead is None or spans[effect.wid][0] > spans[ahead.wid][0]:
                    ahead = effect


RULES = (account, plans, outcomes, decisions, selections, order)
