"""The record: both framings, every earlier version, and foreign bytes."""

import io
import json
from pathlib import Path

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.errors import NotOurs
from hooktape.schemas import codec
from hooktape.schemas.event import Event

GOLDEN = Path(__file__).parent / "golden"

words = st.text(max_size=30)
times = st.integers(0, 4_000_000_000_000_000)
events = st.builds(
    Event, webhook_id=words, shop=words, topic=words, payload=st.binary(max_size=300), received_us=times,
    event_id=st.none() | words, api_version=st.none() | words, resource=st.none() | words, resource_root=st.none() | words,
    version_us=st.none() | times, triggered_us=st.none() | times, hmac=st.none() | words, secret_id=st.none() | words,
    headers=st.dictionaries(words, words, max_size=4), source=words,
)  # fmt: skip


@given(events, st.none() | st.integers(0, 2**31 - 1))
def test_what_is_written_is_read_in_both_framings(event, registry_id):
    assert codec.decode(codec.encode(event, registry_id)) == event


@given(events)
def test_any_avro_reader_with_the_published_schema_reads_the_record(event):
    value = codec.encode(event)
    record = fastavro.schemaless_reader(io.BytesIO(value[10:]), fastavro.parse_schema(json.loads(codec.schema_json())))
    assert record["payload"] == event.payload
    assert record["received_at"] == event.received_at


@given(st.binary(max_size=200))
def test_foreign_bytes_are_refused_by_name_and_never_by_a_crash(value):
    with pytest.raises(NotOurs):
        codec.decode(value)


@given(events, st.integers(1, 40))
def test_a_cut_record_is_refused(event, cut):
    value = codec.encode(event)
    with pytest.raises(NotOurs):
        codec.decode(value[: max(1, len(value) - cut)])


def test_bytes_after_the_record_are_refused():
    value = codec.encode(Event(webhook_id="w", shop="s", topic="t", payload=b"{}", received_us=1))
    with pytest.raises(NotOurs, match="3 bytes after its end"):
        codec.decode(value + b"abc")


def test_a_record_without_a_value_is_refused():
    with pytest.raises(NotOurs, match="no value"):
        codec.decode(None)


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.bin")), ids=lambda path: path.stem)
def test_bytes_written_by_every_schema_version_are_read(path):
    event = codec.decode(path.read_bytes())
    assert event.webhook_id == "b54557e4-bdd9-4b37-8a5f-bf7d70bcd043"
    assert event.payload == b'{"id":820982911946154508,"note":"Zo\xc3\xab"}'
    assert event.headers == {"x-shopify-test": "true"}


def test_the_current_schema_version_has_golden_bytes():
    current = codec.schema_fingerprint(json.loads(codec.schema_json()))
    assert any(path.read_bytes()[2:10] == current for path in GOLDEN.glob("*.bin")), (
        "the schema changed: keep the old one in schemas/versions/ and add golden bytes of the new one"
    )


def test_the_fingerprint_is_the_specifications():
    # The Avro specification's CRC-64-AVRO of the canonical form "int", in little endian.
    assert codec.schema_fingerprint("int") == bytes.fromhex("8f5c393f1ad57572")
