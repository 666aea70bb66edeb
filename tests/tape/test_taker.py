import random

import pytest

from hooktape.settings import Settings
from hooktape.tape import taker
from hooktape.tape.taker import Taker
from tests.tape.kit import create, delete_before, fill

RECORDS = 3000


@pytest.mark.parametrize("kept_bytes", [taker._KEPT_BYTES, 2000], ids=["", "partitions are paused"])
def test_windows_get_the_records_at_their_places_and_none_where_retention_was(
        settings: Settings, prefix: str, monkeypatch: pytest.MonkeyPatch, kept_bytes: int) -> None:  # fmt: skip
    monkeypatch.setattr(taker, "_KEPT_BYTES", kept_bytes)
    topic = f"{prefix}.a"
    create(settings, topic)
    for partition in (0, 1):
        fill(settings, topic, [b"%d/%d" % (partition, i) for i in range(RECORDS)], partition)
    delete_before(settings, topic, 0, 5)
    rng = random.Random(7)
    sparse = [(topic, p, o) for o in range(0, RECORDS, 601) for p in (0, 1)]
    near = [(topic, p, o) for o in range(1500, 2600) for p in (0, 1) if rng.random() < 0.9]
    # A little out of order, as events recorded at the same time are, and one partition far ahead of the other.
    near.sort(key=lambda place: place[2] + rng.randrange(40) + 300 * place[1])
    back = [(topic, 0, 40), (topic, 1, 30), (topic, 0, 35)]
    with Taker(settings) as open_taker:
        for window in (sparse, near[:700], near[700:1400], near[1400:], back, []):
            found = open_taker.take(window)
            assert [m and m.value() for m in found] == [b"%d/%d" % (p, o) if (p, o) >= (0, 5) else None for _, p, o in window]
        assert open_taker._weight == sum(len(m) for spot in open_taker._spots.values() for m in spot.kept.values())
