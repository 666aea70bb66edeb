"""The one place where events become bytes and bytes become events.

Written as Avro single-object encoding (`C3 01`, the schema's CRC-64-AVRO fingerprint in little endian, the record: Avro
specification, "Single-object encoding"), or in the Confluent wire format (`00`, the registry's schema id in big endian, the
record) when an id is given. Both are read. Timestamps stay integers here: fastavro's datetimes would cost more than the rest.
"""

import io
import json
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

from hooktape.errors import NotOurs
from hooktape.schemas.event import Event

_SINGLE_OBJECT = b"\xc3\x01"
_CONFLUENT = b"\x00"

# Record field → Event attribute, where they differ.
_RENAMED = {"resource_version": "version_us", "triggered_at": "triggered_us", "received_at": "received_us"}

SchemaById = Callable[[int], dict[str, Any]]


def schema_json() -> str:
    """The current schema as it's published, logical types included."""
    return (files("hooktape.schemas") / "webhook_event.avsc").read_text()


def plain(schema: dict[str, Any]) -> Any:
    """A parsed schema whose timestamps are read and written as integers: the bytes are the same."""
    return fastavro.parse_schema(_without_logical_types(schema))


def schema_fingerprint(schema: dict[str, Any]) -> bytes:
    """The 8 bytes that name a schema in single-object encoding. Logical types aren't part of the canonical form."""
    return bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


def _without_logical_types(node: Any) -> Any:
    if isinstance(node, dict):
        if "logicalType" in node:
            return node["type"]
        return {key: _without_logical_types(value) for key, value in node.items()}
    return [_without_logical_types(item) for item in node] if isinstance(node, list) else node


_CURRENT = plain(json.loads(schema_json()))
_PREFIX = _SINGLE_OBJECT + schema_fingerprint(json.loads(schema_json()))
_FIELDS = tuple(field["name"] for field in json.loads(schema_json())["fields"])
_PAIRS = tuple((name, _RENAMED.get(name, name)) for name in _FIELDS)


@cache
def _earlier() -> dict[bytes, Any]:
    """Fingerprint → schema of every earlier version that a tape may still hold (`schemas/versions/*.avsc`)."""
    folder = files("hooktape.schemas") / "versions"
    if not folder.is_dir():
        return {}
    schemas = [json.loads(entry.read_text()) for entry in folder.iterdir() if entry.name.endswith(".avsc")]
    return {schema_fingerprint(schema): plain(schema) for schema in schemas}


def encode(event: Event, registry_id: int | None = None) -> bytes:
    """The record's value. With `registry_id`, in the Confluent wire format."""
    out = io.BytesIO()
    out.write(_PREFIX if registry_id is None else _CONFLUENT + registry_id.to_bytes(4, "big"))
    fastavro.schemaless_writer(out, _CURRENT, {name: getattr(event, attribute) for name, attribute in _PAIRS})
    return out.getvalue()


def decode(value: bytes | None, schema_by_id: SchemaById | None = None) -> Event:
    """The event in a record's value. Raises NotOurs for anything that isn't a whole WebhookEvent.

    `schema_by_id` looks up a registry's schema for the Confluent format; without it the current schema is assumed.
    """
    if not value:
        raise NotOurs("the record has no value")
    if value.startswith(_PREFIX):
        writer, start = _CURRENT, len(_PREFIX)
    elif value.startswith(_SINGLE_OBJECT):
        writer, start = _earlier().get(value[2:10]), 10
        if writer is None:
            raise NotOurs(f"the record names a schema that this version doesn't know (fingerprint {value[2:10].hex()})")
    elif value.startswith(_CONFLUENT) and len(value) > 5:
        writer, start = (_writer(schema_by_id(int.from_bytes(value[1:5], "big"))) if schema_by_id else _CURRENT), 5
    else:
        raise NotOurs("the record is neither Avro single-object encoding nor the Confluent wire format")
    stream = io.BytesIO(value)
    stream.seek(start)
    try:
        record: Any = fastavro.schemaless_reader(stream, writer, None if writer is _CURRENT else _CURRENT)
        for name, attribute in _RENAMED.items():
            record[attribute] = record.pop(name)
        event = Event(**record)
    # fastavro raises whatever its C readers meet in foreign bytes: EOFError, ValueError, IndexError, UnicodeDecodeError, …
    except Exception as error:  # noqa: BLE001
        raise NotOurs(f"the record can't be decoded: {type(error).__name__}: {error}") from None
    if stream.tell() != len(value):
        raise NotOurs(f"the record has {len(value) - stream.tell()} bytes after its end")
    return event


def _writer(schema: dict[str, Any]) -> Any:
    try:
        return plain(schema)
    # A registry holds whatever others write; fastavro has no common error for what it can't make sense of.
    except Exception as error:  # noqa: BLE001
        raise NotOurs(f"the record's schema in the registry is no Avro schema: {type(error).__name__}: {error}") from None
