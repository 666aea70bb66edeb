import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from msgspec import structs

from hooktape.ledger.catalogue import REPLAYABLE, Entry, Proof
from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.replayer.catalogue import Cataloguer, Prover
from hooktape.schemas.signature import sign
from hooktape.settings import Settings
from hooktape.tape.names import Names
from tests.replayer.kit import GROUP, SECRET, SHOP, cli, event, record, settle
from tests.tape.kit import delete_before


def _all(ledger: Ledger) -> list[Entry]:
    return ledger.catalogue.find(Selection(), limit=100_000)


def _until(condition, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def test_every_event_is_catalogued_once_with_its_coordinates_and_duplicates_are_copies(tape: Settings, ledger: Ledger) -> None:
    record(tape, [event(i, topic="orders/updated" if i % 2 else "orders/create", version=i) for i in range(50)])
    record(tape, [event(7, topic="orders/updated", version=7)] * 2)
    with Cataloguer(tape, ledger) as cataloguer:
        ends = cataloguer.catch_up()
        assert cataloguer.catch_up() == ends
        assert cataloguer.lag() == 0
        found = _all(ledger)
        assert [e.webhook_id for e in found] == [f"w{i:06}" for i in range(50)]
        assert {e.webhook_id: e.copies for e in found if e.copies > 1} == {"w000007": 3}
        seven = found[7]
        assert (seven.shop, seven.topic, seven.resource, seven.root, seven.version, seven.source) == (
            SHOP, "orders/updated", "order/7", "order/7", 7, "webhook")
        from hooktape.schemas.codec import decode
        from hooktape.schemas.event import Coordinates

        at = Coordinates(seven.kafka_topic, seven.partition, seven.offset)
        assert decode(cataloguer.reader.fetch(at).value).webhook_id == "w000007"


def test_a_record_that_is_no_event_is_counted_and_passed(tape: Settings, ledger: Ledger) -> None:
    record(tape, [event(1), b"\xc3\x01garbage", b"", event(2)])
    with Cataloguer(tape, ledger) as cataloguer:
        cataloguer.catch_up()
        assert cataloguer.foreign == 2
        assert cataloguer.lag() == 0
    assert len(_all(ledger)) == 2


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_catalogues_that_race_record_each_event_once(
    tape: Settings, url: str, database: str, request: pytest.FixtureRequest
) -> None:
    if database == "postgresql":
        url = request.getfixturevalue("postgres_schema")
    record(tape, [event(i) for i in range(6000)])
    errors: list[BaseException] = []

    def work() -> None:
        try:
            with Ledger.open(url) as mine, Cataloguer(tape, mine) as cataloguer:
                cataloguer.catch_up()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with Ledger.open(url) as ledger:
        found = _all(ledger)
        assert (len(found), {e.copies for e in found}) == (6000, {1})


def test_a_killed_catalogue_goes_on_where_it_was_and_counts_nothing_twice(tape: Settings, ledger: Ledger, url: str) -> None:
    environment = {**os.environ, "HOOKTAPE_KAFKA": tape.kafka, "HOOKTAPE_TOPIC_PREFIX": tape.topic_prefix, "HOOKTAPE_DATABASE_URL": url}
    record(tape, [event(i) for i in range(20_000)])
    for _ in range(2):
        before = sum(ledger.catalogue.positions().values())
        process = subprocess.Popen([sys.executable, "-m", "hooktape", "catalog"], env=environment, stderr=subprocess.DEVNULL)
        _until(lambda seen=before: sum(ledger.catalogue.positions().values()) > seen)
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = subprocess.Popen([sys.executable, "-m", "hooktape", "catalog"], env=environment, stderr=subprocess.DEVNULL)
    _until(lambda: sum(ledger.catalogue.positions().values()) == 20_000)
    record(tape, [event(20_000)])
    _until(lambda: sum(ledger.catalogue.positions().values()) == 20_001)
    process.terminate()
    assert process.wait(10) == 0
    found = _all(ledger)
    assert (len(found), {e.copies for e in found}) == (20_001, {1})


def test_a_rebuild_leaves_outcomes_alone_and_is_gone_on_with_where_it_was_killed(tape: Settings, ledger: Ledger, url: str) -> None:
    events = [event(i) for i in range(30_000)]
    record(tape, events)
    settle(ledger, events[:2], State.SUCCEEDED)
    with Cataloguer(tape, ledger) as cataloguer:
        cataloguer.catch_up()
    ledger._database.write(lambda t: t.run("UPDATE events SET copies = 7"))
    environment = {**os.environ, "HOOKTAPE_KAFKA": tape.kafka, "HOOKTAPE_TOPIC_PREFIX": tape.topic_prefix, "HOOKTAPE_DATABASE_URL": url}
    process = subprocess.Popen([sys.executable, "-m", "hooktape", "catalog", "--rebuild"], env=environment, stderr=subprocess.DEVNULL)
    _until(lambda: 0 < sum(ledger.catalogue.positions().values()) < 30_000)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert cli(tape, url, "catalog", "--once").exit_code == 0
    found = _all(ledger)
    assert (len(found), {e.copies for e in found}) == (30_000, {1})
    assert ledger.outcomes.states(GROUP, [events[0].key, events[2].key]) == {events[0].key: State.SUCCEEDED}


def test_an_event_bears_the_proof_that_its_record_bears(tape: Settings, ledger: Ledger) -> None:
    record(tape, [event(1), event(2, hmac=sign(b"other", SECRET)), event(3, hmac=None, secret_id=None, source="reconciler"),
                  event(4, hmac=None, secret_id=None), event(5, hmac=sign(b"x", "retired"), secret_id="0badcafe")])  # fmt: skip
    with Cataloguer(tape, ledger) as cataloguer:
        cataloguer.catch_up()
    assert [e.proof for e in _all(ledger)] == [Proof.VERIFIED, Proof.WRONG, Proof.ADMIN, Proof.NONE, Proof.SIGNED]


@pytest.mark.parametrize(("secrets", "fields", "proof"), [
    ((), {}, Proof.SIGNED),
    ((), {"secret_id": None}, Proof.NONE),
    ((), {"hmac": None, "source": "import"}, Proof.IMPORT),
    ((), {"hmac": None, "source": "elsewhere"}, Proof.NONE),
    (("new", SECRET), {}, Proof.VERIFIED),
    ((SECRET,), {"secret_id": None}, Proof.VERIFIED),
    ((SECRET,), {"payload": b"changed"}, Proof.WRONG),
    ((SECRET,), {"hmac": "\u2603"}, Proof.WRONG),
    (("new",), {}, Proof.SIGNED),
    (("new",), {"secret_id": None}, Proof.WRONG),
])  # fmt: skip
def test_what_vouches_for_an_event_follows_from_its_record_and_the_secrets(secrets: tuple[str, ...], fields: dict[str, Any],
                                                                           proof: Proof) -> None:  # fmt: skip
    told = structs.replace(event(1), **fields)
    assert Prover(secrets).proof(told) is proof
    assert (proof in REPLAYABLE) is (proof not in (Proof.NONE, Proof.WRONG))


def test_what_retention_removed_is_forgotten_and_never_read(tape: Settings, ledger: Ledger) -> None:
    topic = Names(tape.topic_prefix).log("orders.create")
    record(tape, [event(i) for i in range(100)])
    with Cataloguer(tape, ledger) as cataloguer:
        ends = cataloguer.catch_up()
        for (name, partition), end in ends.items():
            if name == topic:
                delete_before(tape, topic, partition, end - 1)
        assert cataloguer.prune(time.time()) == 98
        assert len(_all(ledger)) == 2
        ledger.catalogue.reset()
        cataloguer.catch_up()
        assert len(_all(ledger)) == 2
        assert cataloguer.lag() == 0


def test_catalog_once_says_how_far_it_came(tape: Settings, url: str) -> None:
    record(tape, [event(1), b"alien"])
    result = cli(tape, url, "catalog", "--once", "--json")
    assert result.exit_code == 0
    assert '"foreign": 1' in result.stdout
    assert '"lag": 0' in result.stdout
