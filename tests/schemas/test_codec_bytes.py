"""The writer of our own against fastavro's: the same bytes for every event."""

import io
import json

import fastavro
from hypothesis import given
from hypothesis import strategies as st

from hooktape.schemas import codec
from hooktape.schemas.event import Event

_text = st.text(max_size=400)
_long = st.integers(-(2**63), 2**63 - 1)
_events = st.builds(
    Event,
    webhook_id=_text, shop=_text, topic=_text, payload=st.binary(max_size=1000), received_us=_long, event_id=st.none() | _text,
    api_version=st.none() | _text, resource=st.none() | _text, resource_root=st.none() | _text, version_us=st.none() | _long,
    triggered_us=st.none() | _long, hmac=st.none() | _text, secret_id=st.none() | _text,
    headers=st.dictionaries(_text, _text, max_size=5), source=_text,
)  # fmt: skip
_SCHEMA = codec.plain(json.loads(codec.schema_json()))
_ATTRIBUTES = {"resource_version": "version_us", "triggered_at": "triggered_us", "received_at": "received_us"}


@given(_events)
def test_every_event_is_written_as_fastavro_writes_it(event: Event) -> None:
    record = {field["name"]: getattr(event, _ATTRIBUTES.get(field["name"], field["name"])) for field in _SCHEMA["fields"]}
    expected = io.BytesIO()
    fastavro.schemaless_writer(expected, _SCHEMA, record)
    assert codec.encode(event)[10:] == expected.getvalue()
    assert codec.encode(event, registry_id=7)[5:] == expected.getvalue()
    assert codec.decode(codec.encode(event)) == event
