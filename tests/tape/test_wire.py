"""Record values beside a schema registry that answers as registries do."""

import json
from collections.abc import Callable

import httpx
import pytest

from hooktape.errors import NotOurs, TapeUnavailable
from hooktape.schemas import codec
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import wire

OURS = 7
EVENT = Event(webhook_id="w", shop="a.myshopify.com", topic="orders/create", payload=b"{}", received_us=1)


def registry(monkeypatch: pytest.MonkeyPatch, answer: Callable[[str], httpx.Response]) -> wire.Wire:
    """A wire whose registry gives our schema a number; `answer` says what it has under other ones."""

    def request(method: str, url: str, **_: object) -> httpx.Response:
        if method == "POST":
            return httpx.Response(200, json={"id": OURS})
        if url.endswith(f"/{OURS}"):
            return httpx.Response(200, json={"schema": codec.schema_json()})
        return answer(url)

    monkeypatch.setattr(wire.httpx, "request", request)
    return wire.Wire(Settings(schema_registry_url="http://registry"))


FOREIGN = b"\0\0\0\0\x63 somebody else's"


@pytest.mark.parametrize("answer", [
    httpx.Response(404, json={"error_code": 40403, "message": "Schema not found"}),
    httpx.Response(200, json={"schemaType": "PROTOBUF", "schema": 'syntax = "proto3"; message Order {}'}),
    httpx.Response(200, json={"schemaType": "JSON", "schema": json.dumps({"type": "object", "title": "Order"})}),
    httpx.Response(200, json={"schema": '"string"'}),
], ids=["unknown", "Protobuf", "JSON Schema", "another Avro schema"])  # fmt: skip
def test_a_record_of_somebody_elses_schema_is_not_ours_and_stops_nobody(monkeypatch: pytest.MonkeyPatch, answer: httpx.Response) -> None:
    found = registry(monkeypatch, lambda _: answer)
    for _ in range(2):
        with pytest.raises(NotOurs):
            found.decode(FOREIGN)
    assert found.decode(found.encode(EVENT)) == EVENT


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_registry_that_cant_answer_now_is_waited_for(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    with pytest.raises(TapeUnavailable, match=str(status)):
        registry(monkeypatch, lambda _: httpx.Response(status)).decode(FOREIGN)
