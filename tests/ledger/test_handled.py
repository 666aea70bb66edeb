"""What a group has handled last of the resources of a job, on both databases."""

from msgspec import structs

from hooktape.ledger.checks import State
from hooktape.ledger.handled import Last
from hooktape.ledger.items import RUN, Row, Total
from hooktape.ledger.jobs import Job, Kind
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection

from .conftest import DAY, Owner, key
from .test_catalogue import LOG, entry, record

SHOP = "one.myshopify.com"


def test_the_resources_of_a_job_come_in_pages_each_once(ledger: Ledger) -> None:
    job = ledger.jobs.create(Job("j", "g", Kind.REPLAY, Selection(topics=("orders/*",)), "r", "me", 1.0))
    names = [("b", "order/1"), ("a", "order/2"), ("a", None), ("a", "order/2"), ("b", "order/1")]
    record(ledger, *(structs.replace(entry(seq), key=key(str(seq)), shop=shop, resource=resource)
                     for seq, (shop, resource) in enumerate(names, 1)))  # fmt: skip
    rows: list[Row] = [(job.number, seq, *key(str(seq)), LOG, 0, seq, 2, 0, 0, RUN) for seq in range(1, 6)]
    ledger.jobs.add_items(job, rows, [Total(RUN, "orders/create", "a", 5)])
    assert ledger.handled.resources("j", ("", ""), 2) == [("a", ""), ("a", "order/2")]
    assert ledger.handled.resources("j", ("a", "order/2"), 2) == [("b", "order/1")]
    assert ledger.handled.resources("j", ("b", "order/1"), 2) == []
    assert ledger.handled.resources("other", ("", ""), 2) == []


def test_the_newest_version_that_succeeded_counts_whatever_its_topic_and_day(ledger: Ledger) -> None:
    assert ledger.handled.last("g", SHOP, ["order/1"]) == {}
    rows = [
        structs.replace(entry(1), key=key("old"), resource="order/1", version=5),
        structs.replace(entry(2), key=key("new", DAY + 3), resource="order/1", version=9, topic="orders/paid"),
        structs.replace(entry(3), key=key("dead"), resource="order/1", version=12),
        structs.replace(entry(4), key=key("deletion"), resource="order/2", version=None, topic="orders/delete"),
        structs.replace(entry(5), key=key("unhandled"), resource="order/3", version=7),
        structs.replace(entry(6), key=key("elsewhere"), resource="order/1", version=99, shop="two.myshopify.com"),
        structs.replace(entry(7), key=key("refund"), resource="refund/1", root="order/1", version=99),
    ]
    record(ledger, *rows)
    me = Owner(ledger)
    for name in ("old", "deletion", "elsewhere", "refund"):
        assert me.finish(name, State.SUCCEEDED)
    assert me.finish("new", State.SUCCEEDED, day=DAY + 3)
    assert me.finish("dead", State.DEAD)
    found = ledger.handled.last("g", SHOP, ["order/1", "order/2", "order/3"])
    assert found == {"order/1": Last(9, False), "order/2": Last(None, True)}
    assert ledger.handled.last("other", SHOP, ["order/1"]) == {}
