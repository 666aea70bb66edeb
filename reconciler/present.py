"""The present versions of resources, by their names on the tape: for whoever compares something with Shopify."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx

from hooktape.errors import AdminApiError
from hooktape.reconciler import api, schedule
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.families import FAMILIES, Family, may_read
from hooktape.reconciler.family import NODES_AT_ONCE
from hooktape.settings import Settings

_BY_KIND = {family.kind: family for family in FAMILIES.values() if family.versioned}
# A body of theirs on the tape doesn't say which state it shows, or a newer one needn't have had a webhook.
_UNVERSIONED = {family.kind for family in FAMILIES.values() if not family.versioned}
# Those that only a wrong token or a closed shop explains: asking again for the next batch would be refused the same way.
_LASTING = schedule.PARKING | {"no_token", "credentials", "not_found", "api_version", "wrong_shop"}


class Shops:
    """Asks the shops that have a token. An async context manager; call it with a shop and resources of it. Raises SettingsError where it
    isn't said which these are."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = httpx.AsyncClient()
        self._access = Access(settings, self._http)
        self._clients: dict[str, tuple[AdminClient, frozenset[str]]] = {}
        self._refused: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._http.aclose()

    async def __call__(self, shop: str, resources: Sequence[str]) -> Mapping[str, int | str | None]:
        """Resource → its version (microseconds), None where Shopify shows none, or a sentence why it can't be asked. Never raises
        AdminApiError: a shop that refuses is a reason."""
        if shop in self._refused:
            return dict.fromkeys(resources, self._refused[shop])
        try:
            return await self._ask(shop, resources)
        except AdminApiError as error:
            if error.reason in _LASTING:
                self._refused[shop] = str(error)
            return dict.fromkeys(resources, str(error))

    async def _ask(self, shop: str, resources: Sequence[str]) -> dict[str, int | str | None]:
        found: dict[str, int | str | None] = {}
        wanted: dict[str, list[str]] = defaultdict(list)
        for resource in resources:
            kind, _, number = resource.partition("/")
            if kind not in _BY_KIND or not number.replace("-", "", 1).isdecimal():
                found[resource] = f"the Admin API isn't asked for a {kind}: " + (
                    "no version says which state its bodies show" if kind in _UNVERSIONED else f"only for {', '.join(_BY_KIND)}")
            else:
                wanted[kind].append(resource)
        if not wanted:
            return found
        client, scopes = await self._opened(shop)
        for kind, names in wanted.items():
            family = _BY_KIND[kind]
            if not family.readable(scopes):
                lacks = " or ".join(f"read_{scope}" for scope in family.scopes or (family.name,))
                found.update(dict.fromkeys(names, f"the app may not read {family.name}: it lacks the scope {lacks}"))
                continue
            for start in range(0, len(names), NODES_AT_ONCE):
                batch = names[start : start + NODES_AT_ONCE]
                for name, row in zip(batch, await api.rows(client, family, [family.gid(each) for each in batch]), strict=True):
                    found[name] = row.version if row is not None else _absent(family, scopes)
        return found

    async def _opened(self, shop: str) -> tuple[AdminClient, frozenset[str]]:
        if shop not in self._clients:
            client = AdminClient(self._settings, shop, self._http, self._access)
            self._clients[shop] = client, (await api.gate(client)).scopes
        return self._clients[shop]


def _absent(family: Family, scopes: frozenset[str]) -> str | None:
    if family.horizon is None or may_read(scopes, family.horizon[0].removeprefix("read_")):
        return None
    scope, days = family.horizon
    return f"Shopify shows none: it's gone, or older than {days} days and the app lacks the scope {scope}"
