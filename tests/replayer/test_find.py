"""`events find`, `show` and `list` as an operator types them."""

import json
from pathlib import Path

import pytest

from hooktape.errors import UsageError
from hooktape.ledger.checks import State
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.naming import Asked, read
from hooktape.settings import Settings
from tests.replayer.kit import GROUP, SHOP, cli, event, record, settle

ACME = "acme.myshopify.com"


@pytest.mark.parametrize(("text", "asked"), [
    ("https://admin.shopify.com/store/acme/orders/123?x=1", Asked("order/123", "the address in the admin", shop=ACME)),
    ("https://admin.shopify.com/store/acme/products/5/variants/6", Asked("variant/6", "the address in the admin", shop=ACME)),
    ("acme.myshopify.com/admin/draft_orders/7", Asked("draft_order/7", "the address in the admin", shop=ACME)),
    ("gid://shopify/Order/123", Asked("order/123", "the global id")),
    ("gid://shopify/ProductVariant/4?v=1", Asked("variant/4", "the global id")),
    ("gid://shopify/FulfillmentOrder/4", Asked("fulfillment_order/4", "the global id")),
    ("order/12", Asked("order/12", "the resource", name="order/12")),
    ("#1005", Asked(name="#1005")),
    ("1005", Asked(number="1005", name="1005")),
    ("b54557e4", Asked(name="b54557e4", webhook="b54557e4")),
])  # fmt: skip
def test_what_a_person_has_in_hand_is_read(text: str, asked: Asked) -> None:
    assert read(text) == asked


@pytest.mark.parametrize(("text", "shop", "said"), [
    (" ", None, "Say what"), ("https://admin.shopify.com/store/acme/orders", None, "names no resource"),
    ("https://admin.shopify.com/store/acme/orders/1", "other", "leave one of them out")])  # fmt: skip
def test_what_names_nothing_is_refused(text: str, shop: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read(text, shop)


def test_events_are_found_by_name_number_id_address_and_webhook(tape: Settings, ledger: Ledger, url: str) -> None:
    big = 820982911946154508
    order = event(1, resource=big, payload=b'{"id": %d, "name": "#1005", "order_number": 1005}' % big, webhook_id="b54557e4-aaaa")
    events = [order, event(2, topic="orders/updated", resource=big, webhook_id="b54557e4-bbbb"), event(3, resource=1005)]
    record(tape, [*events, event(4, resource=77, shop="other.myshopify.com", payload=b'{"name": "#1005"}')])
    settle(ledger, events[:1], State.SUCCEEDED)

    def found(*words: str) -> list[tuple[str, list[str]]]:
        answer = json.loads(cli(tape, url, "events", "find", *words, "--json").stdout)
        return [(f["rule"], [e["webhook_id"] for e in f["events"]]) for f in answer]

    both = ["b54557e4-bbbb", "b54557e4-aaaa"]
    assert found("#1005", "--shop", "acme") == [("the order name", both)]
    assert found("1005", "--shop", "acme") == [("the id", ["w000003"]), ("the order name", both)]
    assert sorted(found("#1005")) == [("the order name", both), ("the order name", ["w000004"])]
    assert found(str(big)) == [("the id", both)]
    assert found(f"gid://shopify/Order/{big}") == [("the global id", both)]
    assert found(f"https://admin.shopify.com/store/acme/orders/{big}") == [("the address in the admin", both)]
    assert found("b54557e4") == [("the beginning of the webhook id", both)]
    assert found("b54557e4-aaaa") == [("the webhook id", both[1:])]
    text = cli(tape, url, "events", "find", "#1005", "--shop", "acme").stdout
    assert text.startswith(f"the order name #1005 is order/{big} of {SHOP}\n")
    assert [line.split()[-1] for line in text.splitlines()[1:]] == [GROUP.upper(), "never-seen", "succeeded"]
    nothing = cli(tape, url, "events", "find", "#9", "--shop", "acme")
    assert (nothing.exit_code, str(nothing.exception)) == (3, "Nothing on the tape is called #9 in acme.myshopify.com.")


def test_an_event_is_shown_by_the_beginning_of_its_id_where_that_is_one_events(tape: Settings, url: str) -> None:
    record(tape, [event(1, webhook_id="b54557e4-aaaa"), event(2, webhook_id="b54557e4-bbbb")])
    assert json.loads(cli(tape, url, "events", "show", "b54557e4-a", "--json").stdout)["webhook_id"] == "b54557e4-aaaa"
    several = cli(tape, url, "events", "show", "b54557e4")
    assert (several.exit_code, str(several.exception)) == (2, "2 webhook ids begin with b54557e4: b54557e4-aaaa, b54557e4-bbbb.")
    assert cli(tape, url, "events", "show", "b54557e").exit_code == 3  # too short


def test_a_list_goes_on_after_its_cursor_and_takes_ids_from_a_file(tape: Settings, url: str, tmp_path: Path) -> None:
    record(tape, [event(n) for n in range(5)])
    first = json.loads(cli(tape, url, "events", "list", "--limit", "3", "--json").stdout)
    assert ([e["webhook_id"] for e in first["events"]], first["whole"]) == (["w000004", "w000003", "w000002"], True)
    rest = json.loads(cli(tape, url, "events", "list", "--limit", "3", "--json", "--after", first["after"]).stdout)
    assert ([e["webhook_id"] for e in rest["events"]], rest["after"]) == (["w000001", "w000000"], None)
    file = tmp_path / "ids"
    file.write_text("w000001\nw000003\n")
    assert cli(tape, url, "events", "list", "--id-file", str(file), "--count").stdout == "2\n"
    file.write_text("w000001\nno id\n")
    wrong = cli(tape, url, "events", "list", "--id-file", str(file))
    assert (wrong.exit_code, "Line 2" in str(wrong.exception)) == (2, True)
    assert cli(tape, url, "events", "list", "--where", "id == `3`", "--count").stdout == "1\n"
    assert cli(tape, url, "events", "list", "--where", "id ==").exit_code == 2


def test_a_plan_holds_only_what_the_bodies_select(tape: Settings, url: str) -> None:
    record(tape, [event(n) for n in range(6)])
    planned = cli(tape, url, "replay", "plan", "--group", GROUP, "--where", "id >= `4`", "--json")
    assert json.loads(planned.stdout)["decisions"] == {"run": 2}
