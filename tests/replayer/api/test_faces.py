"""Two faces of the same functions: what a command does, the API does, and both select by the same fields."""

import itertools
from collections.abc import Iterator
from typing import Any

import click
import pytest

from hooktape.cli import breaker, dlq, events, reconcile_report, replay, reset, status
from hooktape.ledger.selection import FIELDS
from hooktape.replayer.api.app import create_app
from hooktape.replayer.api.routes import PREFIX, ROUTES
from hooktape.settings import Settings

_HERE = "/groups/{group}"
_LETTERS = f"{_HERE}/dead-letters"
ROUTED = {
    "events list": ["GET /events", "GET /events/count"],
    "events find": ["GET /events/find"],
    "events show": ["GET /events/{webhook_id}", "GET /events/{webhook_id}/body"],
    "replay plan": ["POST /replays", "GET /replays/{job_id}/plan"],
    "replay backfill": ["POST /replays"],
    "replay run": ["GET /replays/{job_id}/drift", "POST /replays/{job_id}/run"],
    "replay list": ["GET /replays"],
    "replay show": ["GET /replays/{job_id}", *(f"GET /replays/{{job_id}}/{part}" for part in ("items", "export", "progress"))],
    "replay pause": ["POST /replays/{job_id}/pause"],
    "replay resume": ["POST /replays/{job_id}/resume"],
    "replay cancel": ["POST /replays/{job_id}/cancel"],
    "replay verify": ["POST /replays/{job_id}/verify"],
    "dlq list": [f"GET {_LETTERS}", f"GET {_LETTERS}/poison"],
    "dlq groups": [f"GET {_LETTERS}/causes", f"GET {_LETTERS}/causes/{{error_group}}"],
    "dlq show": [f"GET {_LETTERS}/{{webhook_id}}", f"GET {_LETTERS}/{{webhook_id}}/body", f"GET {_LETTERS}/poison/body"],
    "dlq redrive": [f"POST {_LETTERS}/redrive"],
    "dlq discard": [f"POST {_LETTERS}/discard"],
    "dlq restore": [f"POST {_LETTERS}/restore"],
    "dlq export": [f"GET {_LETTERS}/export"],
    "reset": [f"POST {_HERE}/resets/preview", f"POST {_HERE}/resets"],
    "reset undo": [f"POST {_HERE}/resets/undo/preview", f"POST {_HERE}/resets/undo"],
    "reset list": [f"GET {_HERE}/resets"],
    "breaker list": ["GET /breakers"],
    "breaker open": [f"POST {_HERE}/breakers"],
    "breaker close": [f"POST {_HERE}/breakers"],
    "breaker auto": [f"POST {_HERE}/breakers"],
    "reconcile report": ["GET /reconcile/reports"],
    "status": ["GET /status", "GET /groups", f"GET {_HERE}"],
}
UNROUTED = {
    "events tail": "it reads Kafka for as long as somebody watches: a page asks for the newest events instead",
}
# What no command shows by itself.
ALONE = {"GET /me", "GET /audit", "GET /catalogue"}


def _commands() -> Iterator[tuple[str, click.Command]]:
    for name, module in (("events", events), ("replay", replay), ("dlq", dlq), ("reset", reset), ("breaker", breaker), ("status", status)):
        command: click.Command = module.command
        if not isinstance(command, click.Group) or command.invoke_without_command:
            yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {word}", each) for word, each in command.commands.items())
    yield "reconcile report", reconcile_report.command


def test_every_command_has_its_route_or_a_reason_why_not():
    assert {name for name, _ in _commands()} == {*ROUTED, *UNROUTED}
    assert {*itertools.chain(*ROUTED.values()), *ALONE} == {f"{route.method} {route.path}" for route in ROUTES}


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return create_app(Settings(), local=True).openapi()


def test_every_face_selects_by_the_same_fields(described: dict[str, Any]):
    names = {field.name for field in FIELDS}
    selecting = {name for name, command in _commands() if {"topic", "where"} <= {p.name for p in command.params}}
    assert selecting == {"events list", "replay plan", "replay backfill", "dlq list", "dlq redrive", "dlq discard", "dlq restore",
                         "dlq export"}  # fmt: skip
    for name, command in _commands():
        if name in selecting:
            assert names <= {p.name for p in command.params}, name
    assert set(described["components"]["schemas"]["Selection"]["properties"]) == names
    assert described["components"]["schemas"]["Selection"]["additionalProperties"] is False

    asked = {place for name in selecting for place in ROUTED[name]} - {f"GET {_LETTERS}/poison", "GET /replays/{job_id}/plan"}
    for method, path in (place.split() for place in asked):
        operation = described["paths"][PREFIX + path][method.lower()]
        if method == "GET":
            assert names <= {p["name"] for p in operation["parameters"]}, path
        else:
            body = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert "Selection" in str(described["components"]["schemas"][body]["properties"]["selection"]), path
