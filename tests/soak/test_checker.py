"""The judge: it lets clean histories pass, and each planted fault trips exactly the rule that is there for it."""

import time
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooktape.local.soak.checker import judge
from hooktape.local.soak.history import Asked, Attempt, Command, Commit, Fault, History, Item, Outcome, Record
from tests.soak.histories import GROUP, PIDS, Plant, clean, with_replay

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


def lost_ack(history: History) -> None:
    forget(history, done(history).wid)


def refused_but_kept(history: History) -> None:
    wid = done(history).wid
    post = next(p for p in history.posts if p.wid == wid)
    swap(history.posts, post, change(post, status=401))


def phantom(history: History) -> None:
    history.records.append(Record("log", "log.foreign", 0, 0, 200.0, "nobody's", "s", "foreign/topic", "x", "s/foreign/1"))


def altered(history: History) -> None:
    record = record_of(history, done(history).wid)
    swap(history.records, record, change(record, sha="other"))


def written_twice(history: History) -> None:
    record = record_of(history, done(history).wid)
    history.records.append(change(record, kafka_topic="log.copy", offset=0))


def inconsistent_offset(history: History) -> None:
    record = next(r for r in history.records if r.kind == "retry")
    history.records.append(change(record, wid=done(history).wid, due=None))


def late_answer(history: History) -> None:
    post = next(p for p in history.posts if p.wid == done(history).wid)
    swap(history.posts, post, change(post, t0=post.t1 - 4.6))


def unhandled(history: History) -> None:
    wid = done(history).wid
    outcome = next(o for o in history.outcomes if o.wid == wid)
    swap(history.outcomes, outcome, change(outcome, state="waiting"))


def phantom_success(history: History) -> None:
    attempt = done(history)
    # The last of its partition: else an offset was committed over it, too.
    swap(history.attempts, attempt, change(attempt, ok=False))
    history.commits.clear()
    history.facts = change(history.facts, ends={})


def dead_but_nowhere(history: History) -> None:
    wid = next(o.wid for o in history.outcomes if o.state == "dead" and not any(i.wid == o.wid for i in history.items))
    history.records[:] = [r for r in history.records if not (r.wid == wid and r.kind == "dlq")]
    history.commits.clear()
    history.facts = change(history.facts, ends={})


def superseded_by_nothing(history: History) -> None:
    attempt = max((a for a in history.attempts if a.handler == "newest" and a.ok), key=lambda a: (a.resource, a.version or 0))
    outcome = next(o for o in history.outcomes if o.wid == attempt.wid)
    swap(history.outcomes, outcome, change(outcome, state="stale"))


def doubly_dead(history: History) -> None:
    letter = next(r for r in history.records if r.kind == "dlq")
    history.records.append(change(letter, offset=10_000, at=letter.at + 0.1))


def handled_twice(history: History) -> None:
    attempt = done(history)
    last = max(a.end or a.start for a in history.attempts)
    history.attempts.append(change(attempt, attempt=2, start=last + 1, end=last + 1.1))


def transactional_twice(history: History) -> None:
    row = next(r for r in history.rows if r.wid == done(history, "booked").wid)
    history.rows.append(change(row, at=row.at + 0.001))


def overlap(history: History) -> None:
    attempt = done(history)
    assert attempt.end is not None
    # A try that failed, of another event of the lane, in another process.
    other = next(a for a in history.attempts if a.lane == attempt.lane and a.wid != attempt.wid and a.attempt == 1
                 and a.start > attempt.start)  # fmt: skip
    middle = (attempt.start + attempt.end) / 2
    history.attempts.append(change(other, start=middle, end=middle + 0.0001, ok=False, attempt=0, pid=PIDS[1]))


def fence_broken(history: History) -> None:
    attempt = done(history, "booked")
    row = next(r for r in history.rows if r.wid == attempt.wid)
    base = max(a.end or a.start for a in history.attempts) + 10
    history.faults.append(Fault("stop", "worker", 77, base + 0.1, base + 5))
    swap(history.attempts, attempt, change(attempt, pid=77, start=base, end=base + 5.2))
    history.attempts.append(change(attempt, pid=78, start=base + 3, end=base + 3.1, ok=False))
    swap(history.rows, row, change(row, pid=77, at=base + 5.1))
    history.commits.clear()
    history.facts = change(history.facts, ends={})
    # What comes after it in its lane is of no interest here.
    offset = record_of(history, attempt.wid).offset
    later = {r.wid for r in history.records if r.kind == "log" and r.key == attempt.lane and r.offset > offset}
    for wid in later:
        forget(history, wid)
    history.posts[:] = [p for p in history.posts if p.wid not in later]


def out_of_order(history: History) -> None:
    keep_generation(history, set())
    attempt = done(history)
    earlier = next(a for a in history.attempts if a.lane == attempt.lane and a.ok and a.end is not None and a.end < attempt.start)
    first, second = record_of(history, earlier.wid), record_of(history, attempt.wid)
    # The tape had them the other way round.
    history.commits.clear()
    history.facts = change(history.facts, ends={})
    swap(history.records, first, change(first, offset=second.offset))
    swap(history.records, second, change(second, offset=first.offset))
    keep = {earlier.wid, attempt.wid}
    for wid in {r.wid for r in history.records if r.key == attempt.lane} - keep:
        forget(history, wid)
        history.posts[:] = [p for p in history.posts if p.wid != wid]


def stale(history: History) -> None:
    runs = sorted((a for a in history.attempts if a.handler == "newest" and a.ok), key=lambda a: a.start)
    earlier = next(a for a in runs if any(
        b.resource == a.resource and (b.version or 0) > (a.version or 0) and b.start > a.start for b in runs))  # fmt: skip
    swap(history.attempts, earlier, change(earlier, version=10_000))


def attempts_not_rising(history: History) -> None:
    attempt = next(a for a in history.attempts if a.attempt == 2 and a.handler == "unordered")
    swap(history.attempts, attempt, change(attempt, attempt=1))


def too_many_attempts(history: History) -> None:
    attempt = done(history)
    swap(history.attempts, attempt, change(attempt, attempt=5))


def too_early(history: History) -> None:
    letter = next(r for r in history.records if r.kind == "retry")
    assert letter.due is not None
    swap(history.records, letter, change(letter, due=letter.due + 0.2))


def committed_past_unfinished(history: History) -> None:
    attempt = done(history)
    record = record_of(history, attempt.wid)
    early = attempt.start - 0.2
    history.commits.insert(0, Commit(GROUP, record.kafka_topic, record.partition, record.offset + 1, early - 0.01, early))


def not_drained(history: History) -> None:
    history.facts = change(history.facts, drain=None)


def lag(history: History) -> None:
    place = next(iter(history.facts.ends))
    history.facts = change(history.facts, ends={**history.facts.ends, place: history.facts.ends[place] + 1})


def ended_by_itself(history: History) -> None:
    history.faults.append(Fault("ended", "worker", 5, 150.0, detail="status 1"))


def account(history: History) -> None:
    item = item_of(history, "redrive")
    forget_effect(history, item)
    swap(history.items, item, change(item, outcome=""))
    history.records[:] = [r for r in history.records if not (r.generation == "redrive" and r.wid == item.wid)]
    history.commands[:] = [c for c in history.commands if not (c.job == "redrive" and c.verb == "run")]


def account_of_two(history: History) -> None:
    item = item_of(history, "late", decision="done")
    drop(history, item)
    history.items += [item, item]


def account_of_what_was_handed_over(history: History) -> None:
    item = item_of(history, "forced")
    forget_effect(history, item)
    swap(history.items, item, change(item, outcome=""))
    history.commands[:] = [c for c in history.commands if not (c.job == "forced" and c.verb == "run")]


def account_told_otherwise(history: History) -> None:
    command = command_of(history, "forced", "run")
    swap(history.commands, command, change(command, told={**command.told, "succeeded": command.told["succeeded"] - 1, "skipped:held": 1}))


def account_told_short(history: History) -> None:
    command = command_of(history, "forced", "run")
    swap(history.commands, command, change(command, told={**command.told, "succeeded": command.told["succeeded"] - 1}))


def account_plan_told_otherwise(history: History) -> None:
    command = command_of(history, "late", "plan")
    swap(history.commands, command, change(command, told={"run": command.told["done"], "done": command.told["run"]}))


def account_with_0_and_failures(history: History) -> None:
    command = command_of(history, "forced", "run")
    swap(history.commands, command, change(command, code=0))


def account_ended_too_soon(history: History) -> None:
    command = command_of(history, "redrive", "run")
    told = {"succeeded": command.told["succeeded"] - 1, "in_flight": 1}
    swap(history.commands, command, change(command, told=told))


def ran_a_skip(history: History) -> None:
    item = item_of(history, "late", decision="done")
    forced = next(a for a in history.attempts if a.wid == item.wid and a.generation == "forced")
    history.attempts.append(change(forced, generation="late", start=forced.start + 100, end=(forced.end or 0) + 100))
    # Not a repeat as well: it had died before.
    history.records.append(change(record_of(history, item.wid), kind="dlq", kafka_topic="dlq.g", at=forced.start + 50, offset=4000,
                                  group=GROUP, generation="forced"))  # fmt: skip


def effect_outside_plan(history: History) -> None:
    attempt = done(history)
    history.attempts.append(change(attempt, generation="nobody's", start=attempt.start + 100, end=(attempt.end or 0) + 100))
    history.records.append(change(record_of(history, attempt.wid), kind="dlq", kafka_topic="dlq.g", at=attempt.start + 50, offset=4000,
                                  group=GROUP))  # fmt: skip


def handed_over_outside_plan(history: History) -> None:
    record = record_of(history, done(history).wid)
    history.records.append(change(record, kind="replay", kafka_topic="replay.g", offset=4000, group=GROUP, generation="forced"))


def handed_over_a_skip(history: History) -> None:
    record = record_of(history, item_of(history, "late", decision="done").wid)
    history.records.append(change(record, kind="replay", kafka_topic="replay.g", offset=4000, group=GROUP, generation="late"))


def succeeded_by_word_only(history: History) -> None:
    forget_effect(history, item_of(history, "forced"))


def failed_by_word_only(history: History) -> None:
    item = item_of(history, "forced", outcome="failed_again")
    # It died otherwise: that it's dead has its reason, and that it was run again.
    letter = next(r for r in history.records if r.kind == "dlq" and r.generation == "forced")
    swap(history.records, letter, change(letter, generation=""))
    assert letter.wid == item.wid


def skipped_as_done_and_never_was(history: History) -> None:
    item = item_of(history, "redrive")
    forget_effect(history, item)
    say(history, item, "already_done")


def skipped_as_superseded_by_nothing(history: History) -> None:
    versions = {p.wid: (p.resource, p.version) for p in history.posts}
    newest = {resource: version for resource, version in sorted(versions.values())}
    item = next(i for i in history.items if i.outcome == "succeeded" and newest[versions[i.wid][0]] == versions[i.wid][1])
    forget_effect(history, item)
    say(history, item, "superseded")


def skipped_as_held_and_never_failed(history: History) -> None:
    item = item_of(history, "forced", decision="run")
    forget_effect(history, item)
    say(history, item, "held")


def gone_and_still_there(history: History) -> None:
    item = item_of(history, "forced")
    forget_effect(history, item)
    say(history, item, "gone")


def done_and_said_to_have_failed(history: History) -> None:
    item = item_of(history, "forced")
    letter = next(r for r in history.records if r.kind == "dlq" and r.generation == "forced")
    history.records.append(change(letter, wid=item.wid, offset=4000))
    say(history, item, "failed_again")


def decided(decision: str) -> Plant:
    """An event of the forced replay, decided otherwise, and treated as it was decided."""

    def plant(history: History) -> None:
        item = item_of(history, "forced")
        forget_effect(history, item)
        history.records[:] = [r for r in history.records if not (r.kind == "replay" and r.wid == item.wid)]
        swap(history.items, item, change(item, decision=decision, outcome=""))
        history.commands[:] = [change(c, told={}) if c.job == "forced" else c for c in history.commands]

    plant.__name__ = f"decided_{decision}"
    return plant


def decided_done_and_never_was(history: History) -> None:
    item = item_of(history, "redrive")
    forget_effect(history, item)
    history.records[:] = [r for r in history.records if not (r.kind == "replay" and r.wid == item.wid)]
    swap(history.items, item, change(item, decision="done", outcome=""))
    history.commands[:] = [change(c, told={}) if c.job == "redrive" else c for c in history.commands]


def decided_to_run_what_was_done(history: History) -> None:
    item = item_of(history, "late", decision="done")
    swap(history.items, item, change(item, decision="run", outcome="already_done"))
    history.commands[:] = [change(c, told={}) if c.job == "late" else c for c in history.commands]


def missing_from_plan(history: History) -> None:
    drop(history, item_of(history, "late", decision="done"))


def missing_from_redrive(history: History) -> None:
    item = item_of(history, "redrive")
    forget_effect(history, item)
    history.records[:] = [r for r in history.records if not (r.kind == "replay" and r.wid == item.wid)]
    drop(history, item)
    outcome = next(o for o in history.outcomes if o.wid == item.wid)
    swap(history.outcomes, outcome, change(outcome, state="dead"))


def outside_selection(history: History) -> None:
    history.items.append(Item("late", GROUP, done(history).wid, "done", seq=99))
    history.commands[:] = [change(c, told={}, selected=None) if c.job == "late" else c for c in history.commands]


def alive_in_a_redrive(history: History) -> None:
    history.items.append(Item("redrive", GROUP, done(history, "booked").wid, "done", seq=99))
    history.commands[:] = [change(c, told={}, selected=None) if c.job == "redrive" else c for c in history.commands]


def out_of_order_in_a_replay(history: History) -> None:
    """Two of a lane change places: the younger one is done first."""
    runs = sorted((a for a in history.attempts if a.generation == "forced" and a.ok), key=lambda a: a.start)
    first, second = next((a, b) for a in runs for b in runs if a.lane == b.lane and a.start < b.start)
    swap(history.attempts, first, change(first, start=second.start, end=second.end))
    swap(history.attempts, second, change(second, start=first.start, end=first.end))


def handled_twice_in_a_forced_replay(history: History) -> None:
    attempt = next(a for a in history.attempts if a.generation == "forced" and a.ok)
    history.attempts.append(change(attempt, start=attempt.start + 100, end=(attempt.end or 0) + 100))


def handled_again_unforced(history: History) -> None:
    item = item_of(history, "late", decision="done")
    forced = next(a for a in history.attempts if a.wid == item.wid and a.generation == "forced")
    history.attempts.append(change(forced, generation="late", start=forced.start + 100, end=(forced.end or 0) + 100))
    swap(history.items, item, change(item, decision="run", outcome="succeeded"))
    made = command_of(history, "late", "plan")
    # The plan may well have been made before anyone knew.
    history.commands[:] = [made_ for made_ in history.commands if made_.job != "late"] + [change(made, t0=0.0, told={})]


def live_after_a_forced_replay(history: History) -> None:
    """What came by the log runs again, with a replay for an excuse."""
    attempt = next(a for a in history.attempts if a.generation == "forced" and a.ok)
    history.attempts.append(change(attempt, generation="", start=attempt.start + 100, end=(attempt.end or 0) + 100))


def stale_by_a_replay(history: History) -> None:
    """A forced replay runs, with `skip_stale`, what is older than what was applied."""
    keep_generation(history, set())
    runs = [a for a in history.attempts if a.handler == "newest" and a.ok]
    old = next(a for a in runs if any(b.resource == a.resource and (b.version or 0) > (a.version or 0) for b in runs))
    record = record_of(history, old.wid)
    asked = Asked(("products/update",), record.received, record.received + 1, forced=True)
    history.commands.append(Command("plan", "forced", 900, 500.0, 500.1, 0, asked=asked))
    history.items.append(Item("forced", GROUP, old.wid, "run", "succeeded"))
    history.attempts.append(change(old, generation="forced", start=900.0, end=900.1))


def committed_past_a_replayed(history: History) -> None:
    attempt = next(a for a in history.attempts if a.generation == "forced" and a.ok)
    record = next(r for r in history.records if r.kind == "replay" and r.wid == attempt.wid and r.generation == "forced")
    early = attempt.start - 0.2
    history.commits.insert(0, Commit(GROUP, record.kafka_topic, record.partition, record.offset + 1, early - 0.01, early))


def lag_of_a_replay(history: History) -> None:
    history.facts = change(history.facts, ends={**history.facts.ends, f"replay.{GROUP}/0": 1})


def item_of(history: History, job: str, **having: str) -> Item:
    having = having or {"outcome": "succeeded"}
    return next(i for i in history.items if i.job == job and all(getattr(i, name) == value for name, value in having.items()))


def command_of(history: History, job: str, verb: str) -> Command:
    return next(c for c in history.commands if (c.job, c.verb) == (job, verb))


def drop(history: History, item: Item) -> None:
    history.items[:] = [i for i in history.items if i is not item]
    history.commands[:] = [change(c, told={}, selected=None) if c.job == item.job else c for c in history.commands]


def say(history: History, item: Item, outcome: str) -> None:
    """Another outcome, in the ledger and in what was printed."""
    swap(history.items, item, change(item, outcome=outcome))
    history.commands[:] = [change(c, told={}) if (c.job, c.verb) == (item.job, "run") else c for c in history.commands]


def forget_effect(history: History, item: Item) -> None:
    """What an event did in a replay. Where it has no other effect, its end is a person's."""
    history.attempts[:] = [a for a in history.attempts if (a.generation, a.wid) != (item.job, item.wid)]
    history.rows[:] = [r for r in history.rows if (r.generation, r.wid) != (item.job, item.wid)]
    if item.job == "redrive":
        outcome = next(o for o in history.outcomes if o.wid == item.wid)
        swap(history.outcomes, outcome, change(outcome, state="dead"))


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


PLANTS: list[tuple[str, Plant]] = [
    ("lost-ack", lost_ack), ("refused-but-kept", refused_but_kept), ("phantom", phantom), ("altered", altered),
    ("written-twice", written_twice), ("inconsistent-offset", inconsistent_offset), ("late-answer", late_answer),
    ("unhandled", unhandled), ("phantom-success", phantom_success), ("dead-but-nowhere", dead_but_nowhere),
    ("superseded-by-nothing", superseded_by_nothing), ("doubly-dead", doubly_dead), ("handled-twice", handled_twice),
    ("transactional-twice", transactional_twice), ("overlap", overlap), ("fence-broken", fence_broken),
    ("out-of-order", out_of_order), ("stale", stale), ("attempts-not-rising", attempts_not_rising),
    ("too-many-attempts", too_many_attempts), ("too-early", too_early), ("committed-past-unfinished", committed_past_unfinished),
    ("not-drained", not_drained), ("lag", lag), ("ended-by-itself", ended_by_itself),
    ("account", account), ("account", account_of_two), ("account", account_of_what_was_handed_over), ("account", account_told_otherwise),
    ("account", account_told_short), ("account", account_plan_told_otherwise), ("account", account_with_0_and_failures),
    ("account", account_ended_too_soon), ("ran-a-skip", ran_a_skip), ("effect-outside-plan", effect_outside_plan),
    ("handed-over-outside-plan", handed_over_outside_plan), ("handed-over-outside-plan", handed_over_a_skip),
    ("wrong-outcome", succeeded_by_word_only), ("wrong-outcome", failed_by_word_only),
    ("wrong-outcome", skipped_as_done_and_never_was), ("wrong-outcome", skipped_as_superseded_by_nothing),
    ("wrong-outcome", skipped_as_held_and_never_failed), ("wrong-outcome", gone_and_still_there),
    ("wrong-outcome", done_and_said_to_have_failed), ("wrong-decision", decided_done_and_never_was),
    *(("wrong-decision", decided(word)) for word in ("superseded", "waiting", "held", "needs_again", "gone", "unverified", "refused")),
    ("wrong-decision", decided_to_run_what_was_done), ("missing-from-plan", missing_from_plan),
    ("missing-from-plan", missing_from_redrive), ("outside-selection", outside_selection), ("outside-selection", alive_in_a_redrive),
    ("out-of-order", out_of_order_in_a_replay), ("handled-twice", handled_twice_in_a_forced_replay),
    ("handled-twice", handled_again_unforced), ("handled-twice", live_after_a_forced_replay), ("stale", stale_by_a_replay),
    ("committed-past-unfinished", committed_past_a_replayed), ("lag", lag_of_a_replay),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "plant"), PLANTS, ids=[plant.__name__ for _, plant in PLANTS])
def test_a_planted_fault_trips_its_rule_and_no_other(rule: str, plant: Plant) -> None:
    history = with_replay(clean(7, faults=False))
    plant(history)
    found = judge(history).violations
    assert {violation.rule for violation in found} == {rule}, [str(violation) for violation in found]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_clean_history_raises_no_alarm_however_much_was_killed_and_frozen(seed: int) -> None:
    verdict = judge(with_replay(clean(seed, 150)))
    assert verdict.clean, [str(violation) for violation in verdict.violations]


def test_what_a_death_explains_is_counted_as_excused() -> None:
    verdict = judge(clean(3, 2000))
    assert verdict.clean
    assert verdict.counts["excused_repeats"] > 0
    assert verdict.counts["superseded"] > 0
    assert verdict.counts["dead"] > 0
    assert verdict.counts["transactional_effects"] > 0


def test_a_repeat_is_not_excused_by_a_death_long_after_it() -> None:
    history = clean(7, faults=False)
    handled_twice(history)
    first = done(clean(7, faults=False))
    assert first.end is not None
    history.faults.append(Fault("kill", "worker", first.pid, first.end + 2.5))
    assert "handled-twice" in {violation.rule for violation in judge(history).violations}


def test_a_loss_is_placed_and_names_the_nearest_fault() -> None:
    history = clean(7, faults=False)
    wid = done(history).wid
    post = next(p for p in history.posts if p.wid == wid)
    history.faults += [Fault("kill", "broker", 9, post.t1 + 0.5), Fault("kill", "ingest", 8, post.t1 - 30)]
    forget(history, wid)
    (found,) = judge(history).violations
    assert (found.rule, found.where) == ("lost-ack", "middle")
    assert found.near.startswith("kill of broker 9")


def test_what_another_posts_expiry_made_the_producer_send_again_is_no_fault() -> None:
    history = clean(7, faults=False)
    written_twice(history)
    post = next(p for p in history.posts if p.wid == done(clean(7, faults=False)).wid)
    other = next(p for p in reversed(history.posts) if p.t1 < post.t0)
    slow = change(other, t0=post.t0 - 1.5, t1=post.t1)
    swap(history.posts, other, slow)
    assert judge(history).clean
    swap(history.posts, slow, change(other, t0=post.t0 - 0.5, t1=post.t1))
    assert [v.rule for v in judge(history).violations] == ["written-twice"]


def test_a_replay_that_was_paused_at_its_end_says_so_and_no_more() -> None:
    history = with_replay(clean(7, faults=False))
    paused = change(command_of(history, "forced", "run"), code=0, state="paused")
    history.commands.append(paused)
    assert judge(history).clean
    swap(history.commands, paused, change(paused, state="done"))
    assert {v.rule for v in judge(history).violations} == {"account"}


def test_what_came_late_while_ingest_was_frozen_is_excused() -> None:
    history = clean(7, faults=False)
    late_answer(history)
    post = next(p for p in history.posts if p.t1 - p.t0 > 4.5)
    history.faults.append(Fault("stop", "ingest", 8, post.t0 + 1, post.t0 + 4))
    assert judge(history).clean


def test_a_copy_that_the_producer_sent_again_is_no_fault() -> None:
    history = clean(7, faults=False)
    written_twice(history)
    post = next(p for p in history.posts if p.wid == done(clean(7, faults=False)).wid)
    swap(history.posts, post, change(post, t0=post.t1 - 1.6))
    assert judge(history).clean


def test_what_a_process_did_that_had_to_stop_while_the_ledger_was_away_may_come_again() -> None:
    history = clean(7, faults=False)
    handled_twice(history)
    earlier = next(a for a in history.attempts if a.wid == done(clean(7, faults=False)).wid)
    assert earlier.end is not None
    stop = Fault("term", "worker", earlier.pid, earlier.end + 0.1, earlier.end + 3.2)
    history.faults.append(stop)
    assert [v.rule for v in judge(history).violations] == ["handled-twice"]
    history.faults.append(Fault("kill", "postgres", 9, earlier.end - 0.1, earlier.end + 2.5))
    assert judge(history).clean
    # One that had half a minute for it after the ledger was back has no excuse.
    swap(history.faults, stop, change(stop, t=earlier.end + 30, healed=earlier.end + 31))
    assert [v.rule for v in judge(history).violations] == ["handled-twice"]


def test_a_dead_letter_that_was_long_on_its_way_may_lie_there_twice() -> None:
    history = clean(7, faults=False)
    letter = next(r for r in history.records if r.kind == "dlq")
    history.records.append(change(letter, offset=10_000, at=letter.at + 1.1))
    assert judge(history).clean
    # Not where it was tried again in between: that one had been told.
    last = next(a for a in reversed(history.attempts) if a.wid == letter.wid)
    history.attempts.append(change(last, attempt=last.attempt, start=letter.at + 0.2, end=letter.at + 0.3))
    assert "doubly-dead" in {v.rule for v in judge(history).violations}


def test_a_dead_events_redrive_and_a_repeat_that_a_death_explains_are_no_repeats_within_a_replay_either() -> None:
    history = with_replay(clean(7, faults=False))
    run = next(a for a in history.attempts if a.generation == "forced" and a.ok)
    assert run.end is not None
    history.attempts.append(change(run, pid=run.pid + 1, start=run.end + 2, end=run.end + 2.1))
    assert [v.rule for v in judge(history).violations] == ["handled-twice"]
    history.faults.append(Fault("kill", "worker", run.pid, run.end + 0.5))
    verdict = judge(history)
    assert verdict.counts["excused_repeats"] == 1
    assert not {"handled-twice", "wrong-outcome", "account"} & {v.rule for v in verdict.violations}


def test_a_kept_history_is_judged_alike(tmp_path: Path) -> None:
    history = with_replay(clean(5, 200))
    history.outcomes.append(Outcome(GROUP, "w0", "waiting"))
    history.write(tmp_path / "history.jsonl")
    again = History.read(tmp_path / "history.jsonl")
    assert again == history
    assert judge(again) == judge(history)


def test_judging_takes_time_in_proportion() -> None:
    history = clean(1, 20_000)
    began = time.process_time()
    assert judge(history).clean
    # 0.5 s where it was measured; anything quadratic takes minutes.
    assert time.process_time() - began < 15
