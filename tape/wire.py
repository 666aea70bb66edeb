"""A record's value with the framing that the settings ask for: single-object encoding, or the Confluent wire format.

With `HOOKTAPE_SCHEMA_REGISTRY_URL` set, the schema is registered once per process under `dev.hooktape.WebhookEvent` (the
record-name strategy: one subject for all topics), and the registry's compatibility rules apply.
"""

import json
from typing import Any

import httpx

from hooktape.errors import NotOurs, TapeError, TapeUnavailable
from hooktape.schemas import codec
from hooktape.schemas.event import Event
from hooktape.settings import Settings

_SUBJECT = "dev.hooktape.WebhookEvent"
_TYPE = {"Content-Type": "application/vnd.schemaregistry.v1+json"}


class Wire:
    """Encodes and decodes record values. Building one asks the registry, if there's one: TapeUnavailable, TapeError."""

    def __init__(self, settings: Settings) -> None:
        self._url = settings.schema_registry_url.rstrip("/")
        self._by_id: dict[int, dict[str, Any]] = {}
        self._id = self._register() if self._url else None

    def encode(self, event: Event) -> bytes:
        """The value to publish."""
        return codec.encode(event, self._id)

    def decode(self, value: bytes | None) -> Event:
        """The event in a value, in either framing. Raises NotOurs; TapeUnavailable when a registry is needed and silent."""
        return codec.decode(value, self._schema if self._url else None)

    def _register(self) -> int:
        answer = self._ask("POST", f"/subjects/{_SUBJECT}/versions", {"schema": codec.schema_json()})
        return int(answer["id"])

    def _schema(self, number: int) -> dict[str, Any]:
        if number not in self._by_id:
            answer = self._ask("GET", f"/schemas/ids/{number}", None)
            if (kind := answer.get("schemaType", "AVRO")) != "AVRO":
                raise NotOurs(f"the record's schema, {number} in the registry, is {kind} and not Avro")
            self._by_id[number] = json.loads(answer["schema"])
        return self._by_id[number]

    def _ask(self, method: str, path: str, body: dict[str, str] | None) -> dict[str, Any]:
        try:
            response = httpx.request(method, self._url + path, json=body, headers=_TYPE, timeout=5)
        except httpx.HTTPError as error:
            raise TapeUnavailable(f"the schema registry at {self._url} doesn't answer: {error}") from None
        if response.status_code != 200:
            # Not found: a record that only begins like one of the registry's. It stands on the tape, and must stop nobody twice.
            later = response.status_code >= 500 or response.status_code == 429
            kind = TapeUnavailable if later else NotOurs if method == "GET" and response.status_code == 404 else TapeError
            raise kind(f"the schema registry answered {response.status_code} to {method} {path}: {response.text[:200]}")
        return dict(response.json())
