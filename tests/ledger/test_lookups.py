"""Names lead to resources, on both databases; what isn't a name leaves nothing."""

import json

import pytest

from hooktape.ledger.keys import event_id16
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.lookups import Namer
from hooktape.schemas.event import Event

from .test_catalogue import LOG, entry

DAY_MICROS = 86_400_000_000


def event(number: int, topic: str = "orders/create", shop: str = "one.myshopify.com", day: int = 20_000, root: str | None = None,
          **body: object) -> Event:  # fmt: skip
    return Event(webhook_id=f"w{number}", shop=shop, topic=topic, payload=json.dumps(body).encode(), received_us=day * DAY_MICROS,
                 resource=root or f"order/{number}", resource_root=root or f"order/{number}")  # fmt: skip


def record(ledger: Ledger, *events: Event) -> None:
    rows = [entry(0, key=e.key, shop=e.shop, webhook_id=e.webhook_id, offset=n) for n, e in enumerate(events)]
    names = [row for e in events for row in ledger.lookups.namer.rows(e)]
    end = ledger.catalogue.positions().get((LOG, 0))
    assert ledger.catalogue.record(rows, {(LOG, 0): (end or 0) + len(rows)}, {(LOG, 0): end}, names)


def test_an_order_is_found_by_each_of_its_names_and_the_rule_is_told(ledger: Ledger) -> None:
    record(ledger, event(1, name="#1005", order_number=1005, confirmation_number="XPAV284CT", token="t0k", checkout_token="c0",
                         cart_token="k0", email="a@b.example"),
           event(2, name="ACME-1006-X", order_number=1006), event(3, "products/update", root="product/3", handle="Wool-Blanket"),
           event(4, "draft_orders/create", root="draft_order/4", name="#D7"),
           event(5, "checkouts/create", root="checkout/5", token="c0", name="#99"))  # fmt: skip

    def found(text: str) -> list[tuple[str, str]]:
        return [(named.kind, named.resource) for named in ledger.lookups.find(text)]

    assert found("#1005") == found(" 1005 ") == [("order name", "order/1")]
    assert found("1006") == found("acme-1006-x") == [("order name", "order/2")]
    assert found("xpav284ct") == [("confirmation number", "order/1")]
    assert found("t0k") == [("order token", "order/1")]
    assert found("c0") == [("checkout token", "checkout/5"), ("checkout token", "order/1")]
    assert found("k0") == [("cart token", "order/1")]
    assert found("wool-blanket") == [("product handle", "product/3")]
    assert found("#d7") == [("draft order name", "draft_order/4")]
    assert found("a@b.example") == found("#1") == found("") == []


def test_the_same_name_in_several_shops_is_told_apart_by_the_shop(ledger: Ledger) -> None:
    record(ledger, event(1, name="#1"), event(2, name="#1", shop="two.myshopify.com"))
    assert {named.shop for named in ledger.lookups.find("#1")} == {"one.myshopify.com", "two.myshopify.com"}
    assert [named.resource for named in ledger.lookups.find("#1", "two.myshopify.com")] == ["order/2"]


def test_a_resource_named_again_is_one_row_and_days_are_forgotten_whole(ledger: Ledger) -> None:
    record(ledger, *(event(1, name="#1") for _ in range(3)))
    record(ledger, event(1, "orders/updated", name="#1"), event(1, "orders/updated", day=20_005, name="#1"))

    def rows() -> list[tuple[int]]:
        return ledger._database.read(lambda t: t.rows("SELECT day FROM lookups ORDER BY day"))

    assert rows() == [(20_000,), (20_005,)]
    ledger.prune(20_001)
    assert rows() == [(20_005,)]
    assert [named.resource for named in ledger.lookups.find("#1")] == ["order/1"]
    ledger.catalogue.reset()
    assert rows() == []


def test_the_secret_is_made_once_and_kept(ledger: Ledger, opened: object) -> None:
    other: Ledger = opened()  # type: ignore[operator]
    assert ledger.lookups.namer.hash("order name", "#1") == other.lookups.namer.hash("order name", "1")
    assert Namer(b"a" * 32).hash("order name", "1") != Namer(b"b" * 32).hash("order name", "1")


@pytest.mark.parametrize("payload", [b"", b"{", b"[]", b'{"name": 7}', b'{"name": null}', b"[" * 50_000, b'{"name": "\xff"}',
                                     b'{"name": "' + b"x" * 200 + b'"}'])  # fmt: skip
def test_a_body_that_is_not_what_it_should_be_names_nothing(payload: bytes) -> None:
    made = Event(webhook_id="w", shop="s", topic="orders/create", payload=payload, received_us=0, resource="order/1")
    assert Namer(b"k").rows(made) == []


def test_a_name_that_no_database_takes_is_kept_as_far_as_it_can_be(ledger: Ledger) -> None:
    record(ledger, event(1, name="#\0é", shop="o\0ne", root="order/\0"))
    assert [(named.shop, named.resource) for named in ledger.lookups.find("\0É")] == [("one", "order/")]
    assert ledger.catalogue.by_id(event_id16("o\0ne", "w1"))
