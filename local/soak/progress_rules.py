"""Rules about offsets and liveness: nothing is committed over what isn't in safe hands, and everything comes to rest. Pure."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate

from hooktape.local.soak.view import SLACK_SECONDS, View, Violation

_NEVER = float("inf")


def committed(view: View) -> Iterator[Violation]:
    """committed-past-unfinished: an offset was committed above an event that had no effect, retry record or dead letter then.

    An event that ended stale or discarded counts as in safe hands from the beginning: the ledger doesn't say since when.
    """
    for group in view.groups:
        safe = _safe_since(view, group)
        places: dict[tuple[str, int], list[tuple[int, tuple[str, str]]]] = defaultdict(list)
        for record in view.history.records:
            if (record.kind == "log" and (group, record.topic) in view.by_topic) or (record.kind == "replay" and record.group == group):
                places[record.kafka_topic, record.partition].append((record.offset, (record.generation, record.wid)))
        latest: dict[tuple[str, int], tuple[list[int], list[float]]] = {}
        for place, entries in places.items():
            entries.sort()
            latest[place] = ([offset for offset, _ in entries], list(accumulate((safe.get(of, _NEVER) for _, of in entries), max)))
        blamed: set[tuple[str, int, int]] = set()
        for sample in view.history.commits:
            place = (sample.topic, sample.partition)
            if sample.group != group or place not in latest:
                continue
            offsets, times = latest[place]
            below = bisect_left(offsets, sample.offset)
            if below and times[below - 1] > sample.t1 + SLACK_SECONDS:
                index = next(i for i in range(below) if times[i] > sample.t1 + SLACK_SECONDS)
                if (*place, offsets[index]) not in blamed:
                    blamed.add((*place, offsets[index]))
                    what = (f"{place[0]}/{place[1]}: {sample.offset} was committed while @{offsets[index]} "
                            f"({places[place][index][1][1]}) was nowhere")  # fmt: skip
                    yield view.breach("committed-past-unfinished", what, sample.t1)


def _safe_since(view: View, group: str) -> dict[tuple[str, str], float]:
    """(replay or "", webhook id) → the first moment at which it was known to be in safe hands. What a replay has done needn't be done
    for the log; what was done for the log a replay skips, and its item says so."""
    since: dict[tuple[str, str], float] = {}

    def note(generation: str, wid: str, at: float) -> None:
        for of in {("", wid), (generation, wid)}:
            since[of] = min(since.get(of, _NEVER), at)

    for effect in view.effects:
        if effect.handler.group == group:
            note(effect.generation, effect.wid, effect.at)
    for (_, of, wid), records in view.letters.items():
        if of == group:
            for record in records:
                note(record.generation, wid, record.at)
    for (of, wid), state in view.states.items():
        if of == group and state in ("stale", "discarded"):
            note("", wid, 0.0)
    for item in view.history.items:
        if item.group == group and item.outcome not in ("", "succeeded", "failed_again"):
            since[item.job, item.wid] = 0.0
    return since


def rest(view: View) -> Iterator[Violation]:
    """not-drained: after healing something stayed open too long. lag: the last committed offsets aren't the tape's ends.
    ended-by-itself: a process ended that we hadn't ended, or not as a clean stop ends."""
    facts = view.facts
    if facts.drain is None or facts.drain > facts.drain_limit:
        took = "never" if facts.drain is None else f"only after {facts.drain:.1f} s"
        yield view.breach("not-drained", f"after healing everything came to rest {took} (limit {facts.drain_limit:g} s)", view.last)
    last: dict[tuple[str, str], int] = {}
    for sample in view.history.commits:
        last[sample.group, f"{sample.topic}/{sample.partition}"] = sample.offset
    subscribed = {(group, record.kafka_topic) for record in view.logs for group in view.groups if (group, record.topic) in view.by_topic}
    subscribed |= {(record.group, record.kafka_topic) for record in view.history.records if record.kind == "replay"}
    for place, end in facts.ends.items():
        for group in view.groups:
            if end and (group, place.rpartition("/")[0]) in subscribed and last.get((group, place), 0) < end:
                yield view.breach("lag", f"{group} committed {last.get((group, place), 0)} of {end} of {place}", view.last)
    for fault in view.history.faults:
        if fault.kind == "ended":
            yield view.breach("ended-by-itself", f"{fault.target} {fault.pid} ended: {fault.detail}", fault.t)


RULES = (committed, rest)
