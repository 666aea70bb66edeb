"""The local shop's switches over HTTP, for tests and people in another process. Loopback only, so that there's no token.

GET /control/incidents · PUT /control/incidents/NAME with the parameters as JSON · DELETE /control/incidents[/NAME] ·
POST /control/changes {"count": 10, "rate": 5} · GET /control/missing
"""

from typing import TYPE_CHECKING, Any

import msgspec

from hooktape.errors import UsageError
from hooktape.local.shop.incidents import TABLE

if TYPE_CHECKING:
    from hooktape.local.shop.server import LocalShop

ROOT = "/control/"
Answer = tuple[int, dict[str, Any]]


class _Changes(msgspec.Struct):
    count: int = 1
    rate: float | None = None


async def answer(shop: "LocalShop", method: str, path: str, body: bytes) -> Answer:
    """(status, JSON) of a request to the controls."""
    what, _, name = path.removeprefix(ROOT).partition("/")
    try:
        if what == "incidents":
            return _incidents(shop, method, name, body)
        if (what, method) == ("changes", "POST"):
            asked = msgspec.json.decode(body or b"{}", type=_Changes)
            await shop.run(asked.count, asked.rate)
            return 200, {"changes": len(shop.truth.deliveries)}
        if (what, method) == ("missing", "GET"):
            return 200, {"missing": {resource: delivery.topic for resource, delivery in shop.missing().items()}}
    except (UsageError, msgspec.MsgspecError) as error:
        return 400, {"errors": str(error)}
    return 404, {"errors": f"{method} {path} is no control."}


def _incidents(shop: "LocalShop", method: str, name: str, body: bytes) -> Answer:
    if method == "PUT" and name:
        shop.incidents.start(name, **msgspec.json.decode(body or b"{}", type=dict[str, Any]))
    elif method == "DELETE":
        shop.incidents.stop(name or None)
    elif method != "GET":
        return 405, {"errors": "GET, PUT or DELETE."}
    known = {row.name: {"where": row.where, "does": row.does, "repeats": row.repeats, "parameters": dict(row.parameters)}
             for row in TABLE.values()}  # fmt: skip
    return 200, {"active": shop.incidents.active(), "known": known}
