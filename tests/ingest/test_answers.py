"""Every input gets its stated answer, and what was accepted is on the tape as it came."""

import uuid
from collections.abc import Iterator

import pytest

from hooktape.schemas import topics as shopify
from hooktape.schemas.signature import secret_id, sign
from hooktape.tape import headers as kafka_headers
from hooktape.tape.names import Names

from .conftest import LIMIT, OLD_SECRET, SECRET, SHOP, Ingest, headers

BODY = b'{"id":820982911946154508,"updated_at":"2026-11-20T10:00:00-05:00","note":"Zo\xc3\xab \\u0026 \\/"}'


def test_an_accepted_webhook_is_on_the_tape_byte_for_byte_with_all_its_headers(ingest: Ingest) -> None:
    found = ingest.client.post("/webhooks", content=BODY, headers=(sent := headers(BODY)) | {"X-Shopify-Order-Id": "82", "X-Other": "1"})
    assert (found.status_code, found.text) == (200, "")
    event, record = ingest.recorded(sent["X-Shopify-webhook-id"])
    assert event.payload == BODY
    assert (event.shop, event.topic, event.api_version) == (SHOP, "orders/create", "2026-04")
    assert event.event_id == sent["X-Shopify-event-id"]
    assert (event.resource, event.resource_root) == ("order/820982911946154508", "order/820982911946154508")
    assert event.resource_version is not None
    assert event.resource_version.isoformat() == "2026-11-20T15:00:00+00:00"
    assert event.triggered_at is not None
    assert event.triggered_at.isoformat() == "2026-11-20T15:00:00.123456+00:00"
    assert (event.hmac, event.secret_id, event.source) == (sign(BODY, SECRET), secret_id(SECRET), "webhook")
    assert event.headers == {"x-shopify-triggered-at": "2026-11-20T15:00:00.123456789Z", "x-shopify-order-id": "82"}
    assert record.key == f"{SHOP}/order/820982911946154508".encode()
    assert record.at.topic == Names(ingest.settings.topic_prefix).log("orders.create")
    assert kafka_headers.read(record.headers) == {
        kafka_headers.SHOP: SHOP, kafka_headers.TOPIC: "orders/create", kafka_headers.SOURCE: "webhook",
        kafka_headers.WEBHOOK_ID: event.webhook_id,
    }  # fmt: skip


def test_the_official_vector_is_accepted(ingest: Ingest) -> None:
    # Shopify/shopify-app-js, validate.test.ts: the one literal signature in an official test suite.
    assert ingest.post(b'{"foo": "bar"}', hmac_sha256="B23tXN681gZ0qIWNRrgtzBE9XSDo5yaUu6wfmhu3a7g=").status_code == 200


def test_a_body_signed_with_the_old_secret_is_accepted_and_says_so(ingest: Ingest) -> None:
    webhook_id = str(uuid.uuid4())
    assert ingest.post(BODY, hmac_sha256=sign(BODY, OLD_SECRET), webhook_id=webhook_id).status_code == 200
    assert ingest.recorded(webhook_id)[0].secret_id == secret_id(OLD_SECRET)
    assert ingest.metric(f'hooktape_secret_in_use_total{{secret_id="{secret_id(OLD_SECRET)}"}}') >= 1


@pytest.mark.parametrize("path", ["/webhooks", "/webhooks/", "/webhooks/orders/create?x=1"])
def test_the_path_and_any_below_it_take_webhooks(ingest: Ingest, path: str) -> None:
    assert ingest.post(BODY, path).status_code == 200


@pytest.mark.parametrize("path", ["/", "/webhooksx", "/Webhooks"])
def test_other_paths_are_unknown(ingest: Ingest, path: str) -> None:
    assert ingest.post(BODY, path).status_code == 404


def _refusals() -> Iterator[tuple[str, bytes, dict[str, str | None], int, str]]:
    yield "wrong signature", BODY, {"hmac_sha256": sign(BODY, "another secret")}, 401, "bad_signature"
    yield "signature of another body", BODY, {"hmac_sha256": sign(BODY + b" ", SECRET)}, 401, "bad_signature"
    yield "no signature", BODY, {"hmac_sha256": None}, 401, "bad_signature"
    yield "empty signature", BODY, {"hmac_sha256": ""}, 401, "bad_signature"
    yield "not base64", BODY, {"hmac_sha256": "%%%%"}, 401, "bad_signature"
    yield "hexadecimal", BODY, {"hmac_sha256": "a" * 64}, 401, "bad_signature"
    yield "no topic", BODY, {"topic": None}, 400, "missing_header"
    yield "no shop", BODY, {"shop_domain": None}, 400, "missing_header"
    yield "no webhook id", BODY, {"webhook_id": None}, 400, "missing_header"
    yield "no topic and a wrong signature", BODY, {"topic": None, "hmac_sha256": sign(BODY, "x")}, 401, "bad_signature"
    yield "a shop that's no host name", BODY, {"shop_domain": "a/../b.myshopify.com"}, 400, "bad_header"
    yield "a shop without a dot", BODY, {"shop_domain": "localhost"}, 400, "bad_header"
    yield "a topic too long", BODY, {"topic": "x" * 256}, 400, "bad_header"
    yield "empty body", b"", {}, 400, "empty_body"
    yield "one byte over the limit", b"[" + b"1" * (LIMIT - 1) + b"]", {}, 413, "too_large"
    yield "far over the limit", b"1" * (8 * LIMIT), {}, 413, "too_large"


@pytest.mark.parametrize(("case", "body", "changes", "status", "label"), [pytest.param(*c, id=c[0]) for c in _refusals()])
def test_what_is_wrong_is_refused_counted_and_not_recorded(
    ingest: Ingest, case: str, body: bytes, changes: dict[str, str | None], status: int, label: str
) -> None:
    webhook_id = str(uuid.uuid4())
    sample = f'hooktape_requests_total{{outcome="{label}"}}'
    before = ingest.metric(sample)
    answer = ingest.post(body, **({"webhook_id": webhook_id} | changes))
    assert answer.status_code == status
    assert answer.text
    assert SECRET not in answer.text
    assert ingest.metric(sample) == before + 1
    assert webhook_id not in ingest.tape.events()


def test_a_body_of_exactly_the_limit_is_accepted(ingest: Ingest) -> None:
    body = b"[" + b"1" * (LIMIT - 2) + b"]"
    webhook_id = str(uuid.uuid4())
    assert ingest.post(body, webhook_id=webhook_id).status_code == 200
    assert ingest.recorded(webhook_id)[0].payload == body


@pytest.mark.parametrize(
    "body",
    [b"not JSON", b"[" * 100_000, b'{"id":1}', b"{}", b"\xff\xfe\x00", b"null", b'{"id":' + b"9" * 4000 + b"}"],
    ids=["not JSON", "nested deeply", "stub", "attributed_sessions", "not text", "null", "a huge id"],
)
def test_a_signed_body_is_recorded_whatever_it_holds(ingest: Ingest, body: bytes) -> None:
    webhook_id = str(uuid.uuid4())
    assert ingest.post(body, webhook_id=webhook_id).status_code == 200
    assert ingest.recorded(webhook_id)[0].payload == body


@pytest.mark.parametrize("topic", ["orders_of_tomorrow/invented", "customers/create", "no slash at all"])
def test_a_topic_without_a_log_goes_to_the_log_of_others_and_is_counted(ingest: Ingest, topic: str) -> None:
    webhook_id = str(uuid.uuid4())
    before = ingest.metric("hooktape_unprovisioned_total")
    assert ingest.post(BODY, topic=topic, webhook_id=webhook_id).status_code == 200
    event, record = ingest.recorded(webhook_id)
    assert event.topic == topic
    assert record.at.topic == Names(ingest.settings.topic_prefix).other
    assert ingest.metric("hooktape_unprovisioned_total") == before + 1


def test_topics_of_nobody_knows_where_are_one_label(ingest: Ingest) -> None:
    assert ingest.post(BODY, topic="forged/label").status_code == 200
    text = ingest.client.get("/metrics").text
    assert "forged/label" not in text
    assert 'hooktape_events_received_total{source="webhook",topic="other"}' in text
    assert "forged/label" not in shopify.table()


def test_an_events_delivery_without_x_headers_becomes_the_classic_topic(ingest: Ingest) -> None:
    webhook_id = str(uuid.uuid4())
    sent = {
        "shopify-hmac-sha256": sign(BODY, SECRET), "shopify-topic": "Product", "shopify-action": "update",
        "shopify-shop-domain": SHOP, "shopify-webhook-id": webhook_id, "shopify-handle": "my-subscription",
    }  # fmt: skip
    assert ingest.client.post("/webhooks", content=BODY, headers=sent).status_code == 200
    event, record = ingest.recorded(webhook_id)
    assert event.topic == "products/update"
    assert record.at.topic == Names(ingest.settings.topic_prefix).log("products.update")
    assert event.headers == sent


def test_the_new_family_wins_where_both_are_sent(ingest: Ingest) -> None:
    webhook_id = str(uuid.uuid4())
    both = headers(BODY, hmac_sha256=sign(BODY, "wrong")) | {
        "Shopify-Hmac-Sha256": sign(BODY, SECRET), "Shopify-Webhook-Id": webhook_id, "Shopify-Shop-Domain": "B-Shop.MyShopify.com",
    }  # fmt: skip
    assert ingest.client.post("/webhooks", content=BODY, headers=both).status_code == 200
    event, _ = ingest.recorded(webhook_id)
    assert event.shop == "b-shop.myshopify.com"
    assert event.headers["shopify-shop-domain"] == "B-Shop.MyShopify.com"
    assert event.headers["x-shopify-shop-domain"] == SHOP


@pytest.mark.parametrize("name", ["X-Shopify-Hmac-Sha256", "X-Shopify-Topic", "X-Shopify-Shop-Domain", "X-Shopify-Webhook-Id"])
def test_a_repeated_header_that_may_stand_once_is_refused_with_400(ingest: Ingest, name: str) -> None:
    sent = list(headers(BODY).items())
    twice = next(pair for pair in sent if pair[0].lower() == name.lower())
    answer = ingest.client.post("/webhooks", content=BODY, headers=[*sent, twice])
    assert answer.status_code == 400
    assert "repeated" in answer.text


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
def test_only_post_is_allowed(ingest: Ingest, method: str) -> None:
    answer = ingest.client.request(method, "/webhooks")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_the_same_signed_body_under_another_shop_is_recorded_and_marked(ingest: Ingest) -> None:
    body = b'{"id":77001}'
    first, second = str(uuid.uuid4()), str(uuid.uuid4())
    before = ingest.metric("hooktape_relabelled_total")
    assert ingest.post(body, webhook_id=first).status_code == 200
    assert ingest.post(body, webhook_id=str(uuid.uuid4())).status_code == 200  # Shopify's own second delivery
    assert ingest.post(body, webhook_id=second, shop_domain="thief.myshopify.com").status_code == 200
    assert kafka_headers.RELABELLED not in kafka_headers.read(ingest.recorded(first)[1].headers)
    assert kafka_headers.read(ingest.recorded(second)[1].headers)[kafka_headers.RELABELLED] == "1"
    assert ingest.metric("hooktape_relabelled_total") == before + 1


def test_live_ready_and_metrics_answer(ingest: Ingest) -> None:
    assert ingest.client.get("/livez").status_code == 200
    ready = ingest.client.get("/readyz")
    assert ready.status_code == 200
    assert "one replica" in ready.text  # a single node: said, not refused
    assert 'hooktape_requests_total{outcome="accepted"}' in ingest.client.get("/metrics").text
