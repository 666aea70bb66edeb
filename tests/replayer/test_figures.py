"""The figures that outlive whoever caused them."""

import math
from dataclasses import replace

import pytest

from hooktape import metrics
from hooktape.ledger.breakers import Override, Status
from hooktape.ledger.items import START, Account, Ending, Total
from hooktape.ledger.jobs import Job, JobState, Kind
from hooktape.ledger.keys import EventKey
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.replayer.figures import Figures, GroupFigures, Lag, Replays, export, forget, success_ratio


@pytest.mark.parametrize(("account", "ratio"), [
    (Account(4, succeeded=4), 1.0),
    (Account(4, {"done": 1}, succeeded=1, skipped={"superseded": 1, "already_done": 1}), 1.0),
    (Account(4, succeeded=2, failed_again=2), 0.5),
    (Account(4, {"gone": 1}, succeeded=2, in_flight=1), 0.5),
    (Account(0), 1.0),
])  # fmt: skip
def test_the_ratio_counts_what_is_well_and_nothing_else(account, ratio):
    assert success_ratio(account) == ratio


def test_a_job_that_ends_is_counted_once_by_whoever_keeps_the_figures(tmp_path):
    with Ledger.open(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        end(ledger, "old", ["succeeded"])
        replays = Replays(ledger)
        before = count("succeeded"), count("failed_again")
        end(ledger, "new", ["succeeded", "succeeded", "failed_again"])
        replays.export()
        replays.export()
        assert (count("succeeded"), count("failed_again")) == (before[0] + 2, before[1] + 1)
        assert metrics.REPLAY_SUCCESS._value.get() == pytest.approx(2 / 3)


def test_figures_that_cant_be_had_are_no_figures():
    metrics.DLQ_DEPTH.labels("g").set(3)
    metrics.CATALOG_LAG.set(5)
    forget()
    assert not list(metrics.DLQ_DEPTH.collect()[0].samples)
    assert math.isnan(metrics.CATALOG_LAG._value.get())


def test_a_held_topic_is_exported_as_1_a_free_one_as_0_and_neither_outlives_its_reason():
    held = Status("g", "orders/create", 1, 1.0, 2.0)
    let = replace(held, topic="orders/updated", override=Override("orders/updated", "closed", None, "ada", "known", 1.0))
    lag = {"orders/create": Lag(0, 0.0), "orders/updated": Lag(0, 0.0)}
    export(Figures(1.0, (GroupFigures("g", "stable", 1, lag, held=(held, let)),), 0))
    assert held_topics() == {"orders/create": 1, "orders/updated": 0}
    export(Figures(2.0, (GroupFigures("g", "stable", 1, {}, held=(replace(held, topic="a/b"),)),), 0))
    assert held_topics() == {"a/b": 1}
    forget()
    assert held_topics() == {}


def held_topics():
    return {sample.labels["topic"]: sample.value for sample in metrics.FLOOD_OPEN.collect()[0].samples}


def end(ledger, id_, outcomes):
    job = ledger.jobs.create(Job(id_, "g", Kind.REPLAY, Selection(topics=("orders/*",)), "why", "ana", 1.0))
    keys = [EventKey(1, f"{id_}{i}".encode().ljust(16, b"-")) for i in range(len(outcomes))]
    rows = [(job.number, i + 1, *key, "t", 0, i, 100, 0, 0, "run") for i, key in enumerate(keys)]
    ledger.jobs.add_items(job, rows, [Total("run", "orders/create", "s", len(rows))])
    ledger.jobs.published(job, START, len(rows), len(rows))
    ledger.jobs.move(id_, {JobState.PLANNED}, JobState.RUNNING, 2.0)
    ledger.jobs.settle([Ending(id_, key, outcome) for key, outcome in zip(keys, outcomes, strict=True)])
    assert ledger.jobs.move(id_, {JobState.RUNNING}, JobState.VERIFYING, 3.0)
    assert ledger.jobs.move(id_, {JobState.VERIFYING}, JobState.DONE, 4.0)


def count(outcome):
    return metrics.REPLAY_EVENTS.labels(outcome)._value.get()
