"""What the tape tells of a topic: the newest webhook, what was recorded since, and outages; in whatever stretches it's read."""

import json
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.ledger.doctor import Heard
from hooktape.local.shop.model import WHOLE, Shop
from hooktape.reconciler.doctor.hearing import Reading, after, lacking, together
from hooktape.schemas import resources
from hooktape.schemas.event import Coordinates, Event
from hooktape.tape import headers
from hooktape.tape.reader import Record

from .conftest import event_of

SHOP, TOPIC = "a.myshopify.com", "orders/updated"
PLACE = (SHOP, TOPIC)


def event(at: int, source: str = "webhook", body: bytes = b'{"id":1,"updated_at":"2026-11-22T10:00:00Z"}', **more: Any) -> Event:
    found = resources.find(TOPIC, body)
    return Event(webhook_id=f"{source}-{at}", shop=SHOP, topic=TOPIC, payload=body, received_us=at + 1, triggered_us=at, source=source,
                 api_version="2026-04", resource=found.name, resource_root=found.root, version_us=found.version, **more)  # fmt: skip


def reading(*events: Event, **extra: str) -> Reading:
    """The events as records, a millisecond apart. `extra`: a header of the last."""
    by_offset = dict(enumerate(events))
    taken = Reading(lambda record: by_offset[record.at.offset])
    for offset, one in by_offset.items():
        marks = headers.of_event(one) | (extra if offset == len(events) - 1 else {})
        taken.take(Record(Coordinates("log", 0, offset), 1_000 + offset, None, b"", headers.pack(marks)))
    return taken


def heard(*readings: Reading, begun: int = 0) -> Heard:
    known: dict[tuple[str, str], Heard] = {}
    for one in readings:
        known |= {(row.shop, row.topic): row for row in after(known, one, lambda place: begun)}
    return known[PLACE]


def test_the_newest_webhook_tells_the_version_and_what_its_body_lacks() -> None:
    found = heard(reading(event(100), event(200, body=b'{"name":"#1"}')))
    assert found == Heard(SHOP, TOPIC, 200, "2026-04", ("id", "updated_at"), 0, 0)


def test_synthetic_events_count_until_a_webhook_comes() -> None:
    first = reading(event(100), event(200, "reconciler"), event(300, "reconciler"))
    assert (heard(first).recorded, heard(first).recorded_at) == (2, 200)
    more = heard(first, reading(event(400, "reconciler")))
    assert (more.triggered_at, more.recorded, more.recorded_at) == (100, 3, 200)
    again = heard(first, reading(event(400, "reconciler"), event(350)))
    assert (again.triggered_at, again.recorded, again.recorded_at) == (350, 1, 400)


def test_a_retry_of_an_old_change_does_not_make_the_newest_one_older() -> None:
    assert heard(reading(event(500)), reading(event(100))).triggered_at == 500


def test_a_time_to_come_is_believed_no_further_than_clocks_differ() -> None:
    ahead = msgspec.structs.replace(event(1_000), triggered_us=10**16)
    minutes = 60_000_000
    found = heard(reading(ahead), reading(event(6 * minutes, "reconciler")))
    assert (found.triggered_at, found.recorded) == (1_001 + 5 * minutes, 1)


def test_what_a_backfill_tells_of_from_before_recording_began_is_not_missed() -> None:
    assert heard(reading(*(event(at, "reconciler") for at in range(50))), begun=50).recorded == 0
    assert heard(reading(*(event(at, "reconciler") for at in range(50))), begun=40).recorded == 10


def test_an_import_is_neither_a_webhook_nor_missed() -> None:
    assert after({}, reading(event(100, "import")), lambda place: 0) == []


def test_the_first_record_after_an_outage_tells_of_it() -> None:
    taken = reading(event(100), event(200), **{headers.REFUSED_SINCE: "400000"})
    assert taken.outages == [(400_000, 1_001_000)]
    assert reading(event(100), **{headers.REFUSED_SINCE: "soon"}).outages == []


def test_outages_of_several_processes_are_one_and_old_ones_are_forgotten() -> None:
    assert together([(10, 20), (15, 30), (40, 50), (1, 4), (60, 55)], 5) == ((10, 30), (40, 50))


@given(st.lists(st.tuples(st.integers(1, 1000), st.booleans()), min_size=1, max_size=30), st.integers(0, 1000))
def test_it_does_not_matter_in_how_many_stretches_webhooks_are_read(made: list[tuple[int, bool]], seed: int) -> None:
    events = [event(at, "webhook" if real else "reconciler") for at, real in sorted(made)]
    rng, parts = Random(seed), list[list[Event]]([[]])
    for one in events:
        if rng.random() < 0.3:
            parts.append([])
        parts[-1].append(one)
    assert heard(*(reading(*part) for part in parts if part)) == heard(reading(*events))


def test_every_webhook_of_a_whole_shop_has_what_is_needed() -> None:
    now = 1_770_000_000.0
    shop = Shop("one.myshopify.com", 5, lambda: now, WHOLE)
    topics = set()
    for _ in range(1500):
        now += 1
        change = shop.change(now)
        topics.add(change.topic)
        assert lacking(event_of(change)) == (), change.topic
    assert len(topics) > 30


SAMPLES = sorted((Path(__file__).parents[2] / "../shared/shopify/samples").glob("*.json"))


@pytest.mark.skipif(not SAMPLES, reason="Shopify's real bodies aren't here")
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.stem)
def test_every_real_body_has_what_is_needed(sample: Path) -> None:
    found = json.loads(sample.read_text())
    # Those of the compliance topics are bodies without what came with them.
    topic, body = found.get("topic", sample.stem.replace(".", "/", 1)), json.dumps(found.get("body", found)).encode()
    known = resources.find(topic, body)
    told = Event(webhook_id="x", shop=SHOP, topic=topic, payload=body, received_us=1, resource=known.name, resource_root=known.root,
                 version_us=known.version)  # fmt: skip
    assert lacking(told) == ()
