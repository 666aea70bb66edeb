"""The index of dead letters against a real Kafka, on both databases: kept, rebuilt, pruned, and asked without reading the topic."""

import threading
import time
from collections.abc import Iterator
from random import Random

import pytest

from hooktape.ledger.ledger import Ledger
from hooktape.ledger.letters import Letter, Poison
from hooktape.ledger.selection import Selection
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.letters import LetterIndex
from hooktape.settings import Settings
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader
from tests.replayer.kit import GROUP, bury, cli, event, expire, record


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def url(request: pytest.FixtureRequest, url: str) -> str:
    return url if request.param == "sqlite" else str(request.getfixturevalue("postgres_schema"))


@pytest.fixture
def reader(tape: Settings) -> Iterator[Reader]:
    with Reader(tape) as opened:
        yield opened


class Counted:
    """How many records Kafka has sent to the readers of this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.records = 0
        take = Reader._take

        def counting(reader, messages, runs):
            messages = list(messages)
            self.records += sum(message.error() is None for message in messages)
            return take(reader, messages, runs)

        monkeypatch.setattr(Reader, "_take", counting)


def everything(ledger: Ledger) -> tuple[list[list[Letter]], list[Poison]]:
    return [ledger.letters.all_of(GROUP, event(i).key.id) for i in range(9)], ledger.letters.poison(GROUP)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_index_rebuilt_is_the_index_kept(tape: Settings, ledger: Ledger, reader: Reader, seed: int) -> None:
    random, topic = Random(seed), Names(tape.topic_prefix).dlq(GROUP)
    index = LetterIndex(tape, ledger, reader)
    assert index.catch_up() == 0
    written = 0
    for _ in range(6):
        events = [event(i) for i in random.sample(range(9), random.randint(1, 6))]
        bury(tape, ledger, events, redrives=random.randint(0, 3), generation=str(time.monotonic()))
        record(tape, [b"alien"] * (foreign := random.randint(0, 1)), topic)
        assert index.catch_up(random.choice([None, GROUP])) == len(events) + foreign
        written += len(events) + foreign
    kept = everything(ledger)
    assert sum(map(len, kept[0])) + len(kept[1]) == written
    with Ledger.open(f"sqlite:///{reader._settings.home}/again-{seed}.db") as anew:
        assert LetterIndex(tape, anew, reader).catch_up() == written
        assert everything(anew) == kept
    ledger.catalogue.reset()
    assert index.catch_up() == written
    assert everything(ledger) == kept
    expire(tape, topic)
    assert index.prune() == written
    assert everything(ledger) == ([[]] * 9, [])
    assert len(ledger.letters.find(GROUP, Selection())) == ledger.outcomes.error_groups(GROUP)[0].count  # dead, letter or not


def test_many_that_keep_the_index_at_a_time_keep_it_once(tape: Settings, ledger: Ledger, url: str) -> None:
    record(tape, [event(i) for i in range(500)], Names(tape.topic_prefix).dlq(GROUP))
    begin = threading.Barrier(3)

    def keep() -> None:
        with Ledger.open(url) as own, Reader(tape) as reader:
            begin.wait()
            LetterIndex(tape, own, reader).catch_up()

    keepers = [threading.Thread(target=keep) for _ in range(3)]
    for keeper in keepers:
        keeper.start()
    for keeper in keepers:
        keeper.join()
    found = ledger.letters.of(GROUP, [event(i).key for i in range(500)])
    assert len(found) == 500
    assert len(ledger.letters.all_of(GROUP, event(7).key.id)) == 1


def test_whoever_keeps_the_catalogue_keeps_the_index(tape: Settings, ledger: Ledger, url: str) -> None:
    stop = threading.Event()

    def keep() -> None:
        with Ledger.open(url) as own, Cataloguer(tape, own) as cataloguer:
            cataloguer.follow(stop)

    bury(tape, ledger, [event(1)])
    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        until = time.monotonic() + 30
        while not ledger.letters.of(GROUP, [event(1).key]) and time.monotonic() < until:
            time.sleep(0.05)
    finally:
        stop.set()
        keeper.join()
    assert ledger.letters.of(GROUP, [event(1).key])[event(1).key].entry.webhook_id == "w000001"


def test_ten_thousand_letters_are_grouped_and_listed_without_reading_one(
    tape: Settings, ledger: Ledger, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    events = [event(i) for i in range(10_000)]
    for start in range(0, 10_000, 1000):
        bury(tape, ledger, events[start : start + 1000], cause=f"Error{start // 4000}")
    assert cli(tape, url, "dlq", "list", "--group", GROUP, "--limit", "3").exit_code == 0
    assert counted.records == 10_000  # nobody had kept the index
    counted.records = 0
    groups = cli(tape, url, "dlq", "groups", "--group", GROUP).stdout
    assert [line.split()[1] for line in groups.splitlines()] == ["COUNT", "4000", "4000", "2000"]
    listed = cli(tape, url, "dlq", "list", "--group", GROUP, "--resource", "order/77").stdout
    assert ("w000077" in listed, len(listed.splitlines())) == (True, 2)
    assert counted.records == 0
    assert cli(tape, url, "dlq", "show", "--group", GROUP, "w000077").exit_code == 0
    assert counted.records < 1500  # one record, and what the client had fetched with it
