"""Which shops a command asks the Admin API about."""

import asyncio
from collections.abc import Sequence

import httpx

from hooktape.ledger.selection import shop_domain
from hooktape.reconciler.access.access import Access
from hooktape.settings import Settings


def shops(settings: Settings, words: Sequence[str]) -> list[str]:
    """The shops that were named (`acme` will do), or all that have a token. Raises SettingsError for one that has none, and where it isn't
    said which have; AdminApiError when nobody can tell."""

    async def ask() -> list[str]:
        async with httpx.AsyncClient() as http:
            return await Access(settings, http).shops([shop_domain(word) for word in words])

    return asyncio.run(ask())
