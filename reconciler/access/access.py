"""`Access`: one process's tokens, kept for as long as they're good."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import httpx

from hooktape import log, metrics
from hooktape.errors import AdminApiError, SettingsError
from hooktape.reconciler.access.asked import Asked
from hooktape.reconciler.access.grant import Grant
from hooktape.reconciler.access.source import Filed, Fixed, Source, Token
from hooktape.settings import Secret, Settings, env_name

_log = log.get("hooktape.reconciler")
SOURCES = {"shop_tokens": "setting", "shop_tokens_file": "file", "shop_tokens_url": "app", "shopify_client_id": "grant"}
"""The setting that names a source → what it's called in metrics."""
# The last part of a token's life isn't used: an hour's is renewed six minutes before its end, which a query and clocks may differ by.
_SPARED = 0.1
# Between two tries to renew one that is good for a while yet, in seconds.
_AGAIN = 30.0
# How long the list of shops is believed, in seconds: a shop that has installed the app is looked at within a minute.
_LISTED = 60.0


@dataclass(frozen=True, slots=True)
class _Kept:
    secret: Secret
    renewed_at: float
    ends_at: float


class Access:
    """The shops that can be asked, and their tokens. For all tasks of one loop; keeps nothing anywhere but in memory.

    Raises SettingsError when no source is set, more than one, or one that isn't complete. `http` stays the caller's to close. `clock`:
    epoch seconds.
    """

    def __init__(self, settings: Settings, http: httpx.AsyncClient, *, clock: Callable[[], float] = time.time) -> None:
        self._setting = source_of(settings)
        self._source, self._clock = _source(settings, http), clock
        self._kept: dict[str, _Kept] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._listing = asyncio.Lock()
        self._listed: tuple[float, tuple[str, ...]] | None = None

    @property
    def listed(self) -> frozenset[str] | None:
        """The shops as they were listed last; None: they never were, which is another thing than that there are none."""
        return None if self._listed is None else frozenset(self._listed[1])

    async def shops(self, chosen: Sequence[str] = ()) -> list[str]:
        """All shops that have a token, or those `chosen`, in order. While nobody can tell, those that were known.

        Raises SettingsError for a chosen one that has none, AdminApiError when there never was a list.
        """
        async with self._listing:
            now = self._clock()
            if self._listed is None or not 0 <= now - self._listed[0] < _LISTED:
                self._listed = now, await self._list()
                # Of a shop that has gone nothing is kept, its secret least of all.
                for gone in self._kept.keys() - self._listed[1]:
                    del self._kept[gone]
        known = self._listed[1]
        if unknown := sorted({*chosen} - {*known}):
            raise SettingsError(f"{env_name(self._setting)} has no token for {', '.join(unknown)}.")
        return sorted(set(chosen) or known)

    async def _list(self) -> tuple[str, ...]:
        try:
            return tuple(await self._source.shops())
        except AdminApiError as error:
            if self._listed is None:
                raise
            _log.warning("the shops can't be listed; those known before are gone on with", error=str(error))
            return self._listed[1]

    async def token(self, shop: str, refused: Secret | None = None) -> Secret:
        """The shop's token. `refused`: one that the Admin API has just answered with 401; where the same comes back, no other is to be had.

        Raises AdminApiError, as `Source.token`.
        """
        if refused is not None:
            metrics.ADMIN_TOKENS.labels(SOURCES[self._setting], "refused").inc()
        async with self._locks[shop]:
            kept, now = self._kept.get(shop), self._clock()
            if kept is not None and (kept.secret == refused or now >= kept.ends_at):
                kept = None
            if kept is not None and now < kept.renewed_at:
                return kept.secret
            try:
                token = await self._source.token(shop)
            except AdminApiError as error:
                metrics.ADMIN_TOKENS.labels(SOURCES[self._setting], "failed").inc()
                if kept is None:
                    self._kept.pop(shop, None)
                    raise
                _log.warning("a token couldn't be renewed; it's good for a while yet", shop=shop, seconds=round(kept.ends_at - now),
                             error=str(error))  # fmt: skip
                # Whoever doesn't answer isn't waited for at every query.
                self._kept[shop] = replace(kept, renewed_at=now + _AGAIN)
                return kept.secret
            if shop not in self._kept or self._kept[shop].secret != token.secret:
                metrics.ADMIN_TOKENS.labels(SOURCES[self._setting], "got").inc()
            self._kept[shop] = _keep(token, now)
            return token.secret


def _keep(token: Token, now: float) -> _Kept:
    lasts = token.lasts or 0.0
    return _Kept(token.secret, now + lasts * (1 - _SPARED), now + lasts)


def configured(settings: Settings) -> bool:
    """Whether any shop can be asked."""
    return any(getattr(settings, name) for name in SOURCES)


def source_of(settings: Settings) -> str:
    """The setting that says where tokens come from. Raises SettingsError when none does, or more than one."""
    found = [name for name in SOURCES if getattr(settings, name)]
    if not found:
        raise SettingsError("No shop has a token, and the Admin API is asked with them: set HOOKTAPE_SHOP_TOKENS, or another of "
                            f"{', '.join(env_name(name) for name in SOURCES)} (docs/shopify.md says which).")  # fmt: skip
    if len(found) > 1:
        raise SettingsError(f"{' and '.join(env_name(name) for name in found)} are set, and a shop's token can come from one of them only. "
                            "Unset the others.")  # fmt: skip
    return found[0]


def _source(settings: Settings, http: httpx.AsyncClient) -> Source:
    if settings.shop_tokens_file is not None:
        return Filed(settings.shop_tokens_file)
    if settings.shop_tokens_url:
        return Asked(settings, http)
    return Grant(settings, http) if settings.shopify_client_id else Fixed(settings.shop_tokens)
