"""The judge: it lets clean histories pass, and each planted fault trips exactly the rule that is there for it."""

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hooktape.local.soak.checker import judge
from hooktape.local.soak.history import Commit, Fault, History, Outcome, Record
from tests.soak.histories import GROUP, PIDS, Plant, clean, with_replay
from tests.soak.planting import change, command_of, done, forget, keep_generation, record_of, swap
from tests.soak.replay_plants import REPLAY_PLANTS, item_of, missing_from_redrive


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


PLANTS: list[tuple[str, Plant]] = [
    ("lost-ack", lost_ack), ("refused-but-kept", refused_but_kept), ("phantom", phantom), ("altered", altered),
    ("written-twice", written_twice), ("inconsistent-offset", inconsistent_offset), ("late-answer", late_answer),
    ("unhandled", unhandled), ("phantom-success", phantom_success), ("dead-but-nowhere", dead_but_nowhere),
    ("superseded-by-nothing", superseded_by_nothing), ("doubly-dead", doubly_dead), ("handled-twice", handled_twice),
    ("transactional-twice", transactional_twice), ("overlap", overlap), ("fence-broken", fence_broken),
    ("out-of-order", out_of_order), ("stale", stale), ("attempts-not-rising", attempts_not_rising),
    ("too-many-attempts", too_many_attempts), ("too-early", too_early), ("committed-past-unfinished", committed_past_unfinished),
    ("not-drained", not_drained), ("lag", lag), ("ended-by-itself", ended_by_itself),
    *REPLAY_PLANTS,
]  # fmt: skip


@pytest.mark.parametrize(("rule", "plant"), PLANTS, ids=[plant.__name__ for _, plant in PLANTS])
def test_a_planted_fault_trips_its_rule_and_no_other(rule: str, plant: Plant) -> None:
    history = with_replay(clean(7, faults=False))
    plant(history)
    found = judge(history).violations
    assert {violation.rule for violation in found} == {rule}, [str(violation) for violation in found]


@settings(max_examples=60)
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


def test_what_an_earlier_replay_has_handed_over_may_be_dead_no_longer_without_a_try() -> None:
    history = with_replay(clean(7, faults=False))
    item = item_of(history, "redrive")
    sent = next(r for r in history.records if r.kind == "replay" and r.wid == item.wid)
    letter = next(r for r in history.records if r.kind == "dlq" and r.wid == item.wid)
    missing_from_redrive(history)
    assert "missing-from-plan" in {v.rule for v in judge(history).violations}
    # Superseded there: a newer version had succeeded since it was planned.
    history.records.append(change(sent, generation="earlier", at=letter.at + 0.01))
    assert "missing-from-plan" not in {v.rule for v in judge(history).violations}


def test_what_came_late_while_ingest_was_frozen_is_excused() -> None:
    history = clean(7, faults=False)
    late_answer(history)
    post = next(p for p in history.posts if p.t1 - p.t0 > 4.5)
    history.faults.append(Fault("stop", "ingest", 8, post.t0 + 1, post.t0 + 4))
    assert judge(history).clean


def test_nobody_waits_for_the_answer_to_an_import() -> None:
    history = clean(7, faults=False)
    late_answer(history)
    post = next(p for p in history.posts if p.t1 - p.t0 > 4.5)
    swap(history.posts, post, change(post, imported=True))
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


def test_a_retry_record_may_bear_the_millisecond_in_which_the_try_that_it_counts_began() -> None:
    history = clean(7, faults=False)
    letter = next(r for r in history.records if r.kind == "retry" and r.attempts > 1)
    counted = next(a for a in history.attempts if (a.wid, a.attempt) == (letter.wid, letter.attempts))
    swap(history.records, letter, change(letter, at=counted.start - 1e-6))
    assert judge(history).clean


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
