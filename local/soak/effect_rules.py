"""Rules about effects: how often, one at a time, in order, never older than what was applied. Pure."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from hooktape.local.soak.history import Attempt
from hooktape.local.soak.view import EXCUSE_SECONDS, SLACK_SECONDS, Effect, View, Violation


@dataclass(slots=True)
class Repeats:
    """How many effects came again, by whether anything explains it."""

    transactional: int = 0
    unexcused: int = 0
    excused: int = 0


def repeats(view: View, count: Repeats) -> Iterator[Violation]:
    """handled-twice, transactional-twice: more than one effect of a webhook in a group.

    A forced replay may do it once more, and only once. Any other replay may not, unless the event died after its effect (in a forced
    replay, say). What comes by the log is no replay's affair: that one has done it already excuses nothing.

    A plain handler's is excused when the earlier one's process was killed or frozen between the run's start and two seconds after
    its end, or had to stop while the ledger was away, or when either run sat through a freeze beyond the session's time-out. A
    transactional one's is never.
    """
    seen: dict[tuple[str, ...], Effect] = {}
    for effect in view.effects:
        of = (effect.handler.group, effect.handler.name, effect.wid)
        forced = view.is_forced(effect.generation)
        earlier = seen.get((*of, effect.generation) if forced else of)
        seen[of] = seen[(*of, effect.generation)] = effect
        if earlier is None or (effect.generation != earlier.generation and _died_between(view, earlier, effect)):
            continue
        if effect.handler.transactional:
            count.transactional += 1
            what = f"{effect.wid} has another row, by {effect.pid} after {earlier.pid}"
            yield view.breach("transactional-twice", what, effect.at)
        elif _excused(view, earlier, effect):
            count.excused += 1
        else:
            count.unexcused += 1
            what = f"{effect.wid} ran again by {effect.pid}, {effect.start - earlier.at:.2f} s after {earlier.pid} had done it"
            yield view.breach("handled-twice", what, effect.at)


def _died_between(view: View, earlier: Effect, later: Effect) -> bool:
    letters = view.letters.get(("dlq", later.handler.group, later.wid), ())
    return bool(later.generation) and any(earlier.at - SLACK_SECONDS <= letter.at <= later.at + SLACK_SECONDS for letter in letters)


def _excused(view: View, earlier: Effect, later: Effect) -> bool:
    if view.cut_short(earlier.pid, earlier.start, earlier.at + EXCUSE_SECONDS):
        return True
    return any(view.frozen_out(effect.pid, effect.start, effect.at) for effect in (earlier, later))


def overlap(view: View) -> Iterator[Violation]:
    """overlap: two attempts of one lane at the same time. One that sat through a long freeze is excused: nobody can stop it."""
    lanes: dict[tuple[str, str], list[Attempt]] = defaultdict(list)
    for attempt in view.attempts:
        if view.handlers[attempt.group, attempt.handler].ordered:
            lanes[attempt.group, attempt.lane].append(attempt)
    for (_, lane), runs in lanes.items():
        # The one of those before that ends last; within a lane attempts are in the order of their starts.
        longest: Attempt | None = None
        for run in runs:
            if longest is not None and run.start < view.end_of(longest) and not _sat_through(view, longest) and not _sat_through(view, run):
                what = f"{lane}: {run.wid} by {run.pid} started while {longest.wid} ran in {longest.pid}"
                yield view.breach("overlap", what, run.start)
            if longest is None or view.end_of(run) >= view.end_of(longest):
                longest = run


def _sat_through(view: View, attempt: Attempt) -> bool:
    return view.frozen_out(attempt.pid, attempt.start, view.end_of(attempt)) is not None


def fence(view: View) -> Iterator[Violation]:
    """fence-broken: a process was frozen out and another had begun its event; the row that it wrote afterwards stands."""
    for row in view.history.rows:
        runs = view.runs.get((row.group, row.wid, row.generation), [])
        own = [run for run in runs if run.pid == row.pid and run.start <= row.at]
        if not own or not view.frozen_out(row.pid, own[-1].start, row.at):
            continue
        if other := next((run for run in runs if run.pid != row.pid and own[-1].start < run.start < row.at), None):
            what = f"{row.wid}: {row.pid} recorded its result after its freeze, when {other.pid} had begun it"
            yield view.breach("fence-broken", what, row.at)


def order(view: View) -> Iterator[Violation]:
    """out-of-order: the first effects of a lane within one partition of one topic aren't in the order of the tape.

    One that is overtaken is no violation where it ended dead or superseded: its effect, if any, came from a person's redrive.
    """
    first: dict[tuple[str, str], Effect] = {}
    for effect in view.effects:
        if effect.handler.ordered and not effect.generation:
            first.setdefault((effect.handler.group, effect.wid), effect)
    newest: dict[tuple[str, str, str, int], tuple[int, Effect]] = {}
    for effect in first.values():
        if effect.wid not in view.copies:
            continue
        record = view.copies[effect.wid][0]
        of = (effect.handler.group, effect.lane, record.kafka_topic, record.partition)
        ahead = newest.get(of)
        if ahead is None or record.offset > ahead[0]:
            newest[of] = (record.offset, effect)
        elif view.states.get((effect.handler.group, effect.wid)) not in ("dead", "stale", "discarded"):
            place = f"{record.kafka_topic}/{record.partition}@{record.offset}"
            what = f"{effect.lane}: {effect.wid} ({place}, by {effect.pid}) was done after {ahead[1].wid} (@{ahead[0]}, by {ahead[1].pid})"
            yield view.breach("out-of-order", what, effect.at)


def stale(view: View) -> Iterator[Violation]:
    """stale: with `skip_stale`, a version was applied below one that had been applied, by a replay or otherwise. Of repeats only the
    first counts, and nobody knows of a newer one whose process died before it could say so."""
    newest: dict[tuple[str, str, str, str], tuple[int, Effect]] = {}
    seen: set[tuple[str, str, str, str]] = set()
    for effect in view.effects:
        once = (effect.handler.group, effect.handler.name, effect.wid, effect.generation)
        if not effect.handler.skip_stale or effect.version is None or once in seen:
            continue
        seen.add(once)
        of = (effect.handler.group, effect.handler.name, effect.lane, effect.resource)
        ahead = newest.get(of)
        if ahead is not None and effect.version < ahead[0] and not _excused(view, ahead[1], effect):
            yield view.breach("stale", f"{effect.wid}: an older state of {effect.resource} was applied over a newer one", effect.at)
        if ahead is None or effect.version >= ahead[0]:
            newest[of] = (effect.version, effect)


RULES = (overlap, fence, order, stale)
