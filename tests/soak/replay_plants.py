"""One fault of each kind that a replay can have, planted into the three replays of a clean history."""

from hooktape.local.soak.history import Asked, Command, Commit, History, Item
from tests.soak.histories import GROUP, Plant
from tests.soak.planting import change, command_of, done, keep_generation, record_of, swap


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


REPLAY_PLANTS: list[tuple[str, Plant]] = [
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
