"""Rules about what became of each event: an outcome for every one, and none without its reason. Pure."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

from hooktape.local.soak.history import Attempt, Record
from hooktape.local.soak.view import RESENT_SECONDS, SETTLED_SECONDS, View, Violation

FINAL = frozenset({"succeeded", "stale", "dead", "discarded"})
STAMP_SECONDS = 0.05
"""Kafka's stamps are whole milliseconds, rounded down, on another clock than the tries'."""


def unhandled(view: View) -> Iterator[Violation]:
    """unhandled: on the tape, subscribed, and after the drain neither finished nor in the dead-letter topic."""
    for wid, copies in view.copies.items():
        record = copies[0]
        for group in view.groups:
            if (group, record.topic) not in view.by_topic:
                continue
            state = view.states.get((group, wid), "unknown to the ledger")
            if state not in FINAL and not view.letters.get(("dlq", group, wid)):
                place = f"{record.kafka_topic}/{record.partition}@{record.offset}"
                yield view.breach("unhandled", f"{wid} ({place}) is {state} in {group}", record.at)


def words_and_deeds(view: View) -> Iterator[Violation]:
    """phantom-success: succeeded without an effect. dead-but-nowhere: dead without a dead letter. superseded-by-nothing: stale, and
    no newer state was applied."""
    done = {(effect.handler.group, effect.wid) for effect in view.effects}
    newest: dict[tuple[str, str, str, str], int] = {}
    for effect in view.effects:
        of = (effect.handler.group, effect.handler.name, effect.lane, effect.resource)
        newest[of] = max(newest.get(of, -1), effect.version or 0)
    for (group, wid), state in view.states.items():
        sent = view.sent(wid)
        handler = view.by_topic.get((group, sent.topic)) if sent else None
        if sent is None or handler is None:
            continue
        if state == "succeeded" and (group, wid) not in done:
            yield view.breach("phantom-success", f"{wid} succeeded in {group} without an effect", sent.at)
        elif state == "dead" and not view.letters.get(("dlq", group, wid)):
            yield view.breach("dead-but-nowhere", f"{wid} is dead in {group} and in no dead-letter topic", sent.at)
        if state == "stale" and newest.get((group, handler.name, sent.lane, sent.resource), -1) <= sent.version:
            yield view.breach("superseded-by-nothing", f"{wid} was skipped as stale, and nothing newer was applied", sent.at)


def doubly_dead(view: View) -> Iterator[Violation]:
    """doubly-dead: two dead letters of one generation, and nothing that kept the first from being recorded or acknowledged.

    A letter is sent until Kafka has acknowledged it: one that was long on its way may have been there, unknown to its sender.
    """
    for (kind, group, wid), records in view.letters.items():
        if kind != "dlq":
            continue
        by_generation: dict[str, list[Record]] = defaultdict(list)
        for record in records:
            by_generation[record.generation].append(record)
        for generation, twins in by_generation.items():
            first, last = min(r.at for r in twins), max(r.at for r in twins)
            runs = view.runs.get((group, wid, generation), [])
            if len(twins) > 1 and not _sent_again(view, runs, first, last) and not _cut_off(view, runs, last):
                yield view.breach("doubly-dead", f"{wid} has {len(twins)} dead letters in {group}", last)


def _sent_again(view: View, runs: list[Attempt], first: float, last: float) -> bool:
    """Whether all letters between two times may be one, sent by one process that heard nothing of the first."""
    if any(first < run.start < last for run in runs):
        return False
    tried = max((view.end_of(run) for run in runs if run.start <= first), default=first)
    return last - tried >= RESENT_SECONDS or view.broker_away(tried - SETTLED_SECONDS, last)


def _cut_off(view: View, runs: list[Attempt], until: float) -> bool:
    """Whether a process that had tried the event died, or was frozen, before the next try."""
    ends = [run.start for run in runs[1:]] + [until]
    return any(view.cut_short(run.pid, run.start, end) for run, end in zip(runs, ends, strict=True))


def attempts(view: View) -> Iterator[Violation]:
    """attempts-not-rising, too-many-attempts, too-early: the counting of tries, and their times.

    The quick tries in a lane are on nobody's record: after a death, and where a partition moves, they may be made again. What a retry
    record has counted stays counted, unless a process that tried the event died, or the broker was away: the record may have been on
    Kafka, and nobody knew, or whoever sent it had lost the partition when it heard so, and the ledger refused to count it.
    """
    for (group, wid, generation), runs in view.runs.items():
        most = view.handlers[group, runs[0].handler].max_attempts
        letters = [(letter.at, letter.attempts) for letter in view.letters.get(("retry", group, wid), ())
                   if letter.generation == generation]  # fmt: skip
        moves, died = 0, False
        for earlier, later in pairwise(runs):
            cut = view.cut_short(earlier.pid, earlier.start, later.start) or view.frozen_out(later.pid, later.start, view.end_of(later))
            died = died or cut is not None or view.broker_away(earlier.start - SETTLED_SECONDS, later.start)
            again = later.attempt <= earlier.attempt and view.regrouped(earlier.start, later.start)
            moves += cut is not None or earlier.pid != later.pid or again
            counted = max((count for at, count in letters if at < later.start - STAMP_SECONDS), default=0)
            if later.attempt <= counted and not died:
                what = f"{wid}: attempt {later.attempt} by {later.pid} started when {counted} had been counted"
                yield view.breach("attempts-not-rising", what, later.start)
        # One move more than anybody saw: on a busy machine a lease runs out by itself.
        if len(runs) > most + (moves + 1) * view.facts.tries_a_run or max(run.attempt for run in runs) > most:
            what = f"{wid} was tried {len(runs)} times, up to attempt {max(run.attempt for run in runs)}, of {most}"
            yield view.breach("too-many-attempts", what, runs[-1].start)
    yield from _too_early(view)


def _too_early(view: View) -> Iterator[Violation]:
    due: dict[tuple[str, str, str, int], float] = {}
    for (kind, group, wid), records in view.letters.items():
        for record in records:
            # One that only waits behind another was never tried: it may go as soon as that one has gone.
            if kind == "retry" and record.due is not None and record.attempts > 0:
                of = (group, wid, record.generation, record.attempts + 1)
                due[of] = min(due.get(of, record.due), record.due)
    for attempt in view.attempts:
        when = due.get((attempt.group, attempt.wid, attempt.generation, attempt.attempt))
        if when is not None and attempt.start < when - STAMP_SECONDS:
            what = f"attempt {attempt.attempt} of {attempt.wid} started {when - attempt.start:.3f} s before it was due"
            yield view.breach("too-early", what, attempt.start)


RULES = (unhandled, words_and_deeds, doubly_dead, attempts)
