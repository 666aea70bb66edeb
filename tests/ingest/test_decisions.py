"""The pure parts: the breaker, the headers, the memory of labels, the routes."""

import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.ingest import protocol, receiver, watch
from hooktape.ingest.breaker import Breaker, Permit, State
from hooktape.ingest.headers import Delivery, collect, host_name, identify, signature
from hooktape.ingest.outcome import Outcome
from hooktape.ingest.relabelled import Relabelled
from hooktape.ingest.routes import Routes
from hooktape.schemas.signature import Verifier, sign
from hooktape.tape.names import Names
from hooktape.tape.topics import Found

SIGNATURE = sign(b"{}", "secret").encode()


def raw(**values: str) -> list[tuple[bytes, bytes]]:
    """ASGI headers of the old family."""
    return [(b"x-shopify-" + name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in values.items()]


# ── breaker ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def opened(at: float = 0.0) -> Breaker:
    breaker = Breaker(threshold=3, pause=1.0)
    for _ in range(3):
        breaker.failed(Permit.REQUEST, at)
    return breaker


def test_the_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = Breaker(threshold=3, pause=1.0)
    for _ in range(2):
        breaker.failed(Permit.REQUEST, 0.0)
    breaker.succeeded()
    for _ in range(2):
        breaker.failed(Permit.REQUEST, 0.0)
    assert breaker.state is State.CLOSED
    breaker.failed(Permit.REQUEST, 0.0)
    assert breaker.state is State.OPEN


def test_an_open_breaker_lets_one_probe_through_after_its_pause() -> None:
    breaker = opened(at=10.0)
    assert breaker.ask(10.9) is None
    assert breaker.ask(11.0) is Permit.PROBE
    assert breaker.ask(99.0) is None


def test_a_failed_probe_begins_a_new_pause_and_a_good_one_closes() -> None:
    breaker = opened()
    assert breaker.ask(1.0) is Permit.PROBE
    breaker.failed(Permit.PROBE, 4.0)
    assert breaker.ask(4.5) is None
    assert breaker.ask(5.0) is Permit.PROBE
    breaker.succeeded()
    assert breaker.ask(5.0) is Permit.REQUEST


def test_what_failed_before_it_opened_does_not_end_a_probe() -> None:
    breaker = opened()
    breaker.ask(1.0)
    breaker.failed(Permit.REQUEST, 1.5)
    assert breaker.state is State.HALF_OPEN


def test_a_probe_that_told_nothing_is_given_back() -> None:
    breaker = opened()
    breaker.ask(1.0)
    breaker.abandoned(Permit.REQUEST)
    assert breaker.ask(1.0) is None
    breaker.abandoned(Permit.PROBE)
    assert breaker.ask(1.0) is Permit.PROBE


# ── headers ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("domain", "expected"),
    [
        ("a.myshopify.com", "a.myshopify.com"), ("A-1.MyShopify.COM", "a-1.myshopify.com"), ("localhost", None), ("", None),
        ("a..b", None), ("-a.b", None), ("a-.b", None), ("a.b/c", None), ("a.b:80", None), ("a b.c", None), ("é.com", None),
        ("a.b\n", None), ("x" * 64 + ".com", None), (".".join(["x" * 60] * 5), None),
    ],
)  # fmt: skip
def test_a_shop_is_a_host_name_in_lower_case(domain: str, expected: str | None) -> None:
    assert host_name(domain) == expected


@pytest.mark.parametrize(
    ("sent", "topic"),
    [
        ({"x-shopify-topic": "orders/create"}, "orders/create"),
        ({"shopify-topic": "orders/create"}, "orders/create"),
        ({"shopify-topic": "Product", "shopify-action": "update"}, "products/update"),
        ({"shopify-topic": "Product", "shopify-action": "update", "x-shopify-topic": "products/create"}, "products/create"),
        ({"shopify-topic": "Gadget", "shopify-action": "invented"}, "Gadget/invented"),
        ({"shopify-topic": "orders/create", "x-shopify-topic": "orders/paid"}, "orders/create"),
    ],
)
def test_the_topic_is_found_in_either_family(sent: dict[str, str], topic: str) -> None:
    named = raw(shop_domain="a.b", webhook_id="1") + [(n.encode(), v.encode()) for n, v in sent.items()]
    found = identify(collect(named))
    assert isinstance(found, Delivery)
    assert found.topic == topic


def test_a_header_that_its_field_holds_letter_for_letter_is_not_kept_twice() -> None:
    found = identify(collect(raw(shop_domain="A.b", webhook_id="1", topic="orders/create", name="mine", test="true")))
    assert isinstance(found, Delivery)
    assert found.headers == {"x-shopify-shop-domain": "A.b", "x-shopify-name": "mine", "x-shopify-test": "true"}


def test_repeated_headers_that_name_nothing_are_joined() -> None:
    twice = raw(shop_domain="a.b", webhook_id="1", topic="t", note="1") + raw(note="2")
    found = identify(collect(twice))
    assert isinstance(found, Delivery)
    assert found.headers["x-shopify-note"] == "1, 2"


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "9" * 400])
def test_a_time_that_is_none_is_left_out(text: str) -> None:
    found = identify(collect(raw(shop_domain="a.b", webhook_id="1", topic="t", triggered_at=text)))
    assert isinstance(found, Delivery)
    assert found.triggered_us is None


_name = st.sampled_from(["hmac-sha256", "topic", "shop-domain", "webhook-id", "triggered-at", "action", "anything"])
_family = st.sampled_from(["x-shopify-", "shopify-", "x-", ""])
_pairs = st.lists(st.tuples(st.tuples(_family, _name).map("".join).map(str.encode), st.binary(max_size=40)), max_size=12)


@given(_pairs, st.binary(max_size=50))
def test_no_headers_break_the_extraction_and_no_unsigned_body_passes(pairs: list[tuple[bytes, bytes]], body: bytes) -> None:
    claims = collect(pairs)
    given_signature = signature(claims)
    if not isinstance(given_signature, Outcome):
        assert Verifier(["secret"]).verify(body, given_signature) is None
    found = identify(claims)
    if isinstance(found, Delivery):
        assert host_name(found.shop) == found.shop
        assert found.topic.isprintable()
        assert found.webhook_id.isprintable()
        assert all(name.startswith(("x-shopify-", "shopify-")) for name in found.headers)
    else:
        assert found.status == 400


@given(st.binary(min_size=1, max_size=200), st.sampled_from(["x-shopify-", "shopify-"]))
def test_a_genuine_signature_verifies_from_either_family_with_any_neighbour(body: bytes, family: str) -> None:
    found = signature(collect([(b"x-other", b"1"), (f"{family}hmac-sha256".encode(), b" " + sign(body, "secret").encode())]))
    assert isinstance(found, bytes)
    assert Verifier(["new", "secret"]).verify(body, found) is not None


# ── labels ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_a_body_under_another_label_is_noticed_and_its_own_again_is_not() -> None:
    memory = Relabelled()
    assert not memory.seen(b"body", SIGNATURE, "a.b", "orders/create")
    assert not memory.seen(b"body", SIGNATURE, "a.b", "orders/create")
    assert memory.seen(b"body", SIGNATURE, "a.b", "app/uninstalled")
    assert memory.seen(b"body", SIGNATURE, "c.d", "orders/create")
    assert not memory.seen(b"body", SIGNATURE, "a.b", "orders/create")


def test_another_spelling_of_the_same_signature_is_the_same() -> None:
    # The last letter before the padding carries four bits: its two lowest are anything.
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    text = SIGNATURE.decode()
    respelt = text[:-2] + letters[letters.index(text[-2]) ^ 1] + "="
    assert binascii.a2b_base64(respelt) == binascii.a2b_base64(text)
    memory = Relabelled()
    memory.seen(b"body", SIGNATURE, "a.b", "t")
    assert memory.seen(b"body", respelt.encode(), "c.d", "t")


def test_a_body_that_says_nothing_is_never_relabelled() -> None:
    memory = Relabelled()
    memory.seen(b"{}", SIGNATURE, "a.b", "t")
    assert not memory.seen(b"{}", SIGNATURE, "c.d", "t")


def test_the_memory_is_bounded_and_forgets_what_was_seen_longest_ago() -> None:
    memory = Relabelled(capacity=2)
    first, second, third = (sign(text, "s").encode() for text in (b"one", b"two", b"three"))
    memory.seen(b"one", first, "a.b", "t")
    memory.seen(b"two", second, "a.b", "t")
    memory.seen(b"one", first, "a.b", "t")
    memory.seen(b"three", third, "a.b", "t")
    assert len(memory) == 2
    assert memory.seen(b"one", first, "c.d", "t")
    assert not memory.seen(b"two", second, "c.d", "t")


# ── routes, readiness, times ────────────────────────────────────────────────────────────────────────────────────────
def test_a_topic_goes_to_its_log_while_that_exists_and_to_others_otherwise() -> None:
    names = Names("p")
    routes = Routes("p")
    assert routes.of("orders/create") == names.other
    assert routes.update([names.log("orders.create"), names.other, "foreign"]) == [names.log("orders.create")]
    assert routes.of("orders/create") == names.log("orders.create")
    routes.forget(names.log("orders.create"))
    assert routes.of("orders/create") == names.other


@pytest.mark.parametrize(
    ("replicas", "least", "said"),
    [(1, 1, "one replica"), (1, 2, "one replica"), (3, 1, "min.insync.replicas 1"), (2, 2, "one broker's loss stops it"), (3, 2, "")],
)
def test_weak_logs_are_named_with_what_they_lack(replicas: int, least: int, said: str) -> None:
    found = watch.weaknesses({name: Found(6, replicas, {"min.insync.replicas": str(least)}) for name in ("p.log.a", "p.log.b")})
    assert [text for text in found if "p.log.a and 1 more" in text and said in text] == list(found)
    assert bool(found) is bool(said)


def test_the_times_leave_room_within_shopifys_limit() -> None:
    assert protocol.BODY_SECONDS + receiver.PUBLISH_SECONDS + receiver.TICK_SECONDS <= 4.5
    assert protocol.HEADER_SECONDS == 5
    assert protocol.HEADER_BYTES == 32 * 1024
    assert protocol.HEADER_COUNT == 100


def test_every_outcome_has_its_own_label_and_no_refusal_is_silent() -> None:
    assert len({outcome.label for outcome in Outcome}) == len(Outcome) == len(Outcome.__members__)
    assert all(outcome.text for outcome in Outcome if outcome is not Outcome.ACCEPTED)
    assert [outcome for outcome in Outcome if 200 <= outcome.status < 300] == [Outcome.ACCEPTED]
