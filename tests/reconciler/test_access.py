"""How long a token and a list of shops are used, whatever source they come from."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import httpx
import pytest

from hooktape.errors import AdminApiError, SettingsError
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.access.source import Token
from hooktape.settings import Secret, Settings

pytestmark = pytest.mark.anyio
SHOP, OTHER = "acme.myshopify.com", "beta.myshopify.com"


class Scripted:
    """A source that gives t1, t2 … for so many seconds each, or raises what it's told to."""

    def __init__(self, lasts: float | None = 3600.0) -> None:
        self.lasts, self.asked, self.down = lasts, 0, False
        self.listed: Sequence[str] = (SHOP,)

    async def shops(self) -> Sequence[str]:
        if self.down:
            raise AdminApiError("away", reason="token_source")
        return self.listed

    async def token(self, shop: str) -> Token:
        await asyncio.sleep(0)
        if self.down:
            raise AdminApiError("away", reason="token_source")
        self.asked += 1
        return Token(Secret(f"t{self.asked}"), self.lasts)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def at() -> Clock:
    return Clock()


@pytest.fixture
async def scripted(at: Clock, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Access, Scripted]]:
    source = Scripted()
    monkeypatch.setattr("hooktape.reconciler.access.access._source", lambda *_: source)
    async with httpx.AsyncClient() as http:
        yield Access(Settings(shop_tokens={SHOP: Secret("x")}), http, clock=at), source


async def test_a_token_is_kept_until_the_last_tenth_of_its_life(scripted: tuple[Access, Scripted], at: Clock) -> None:
    access, source = scripted
    tokens = [(await access.token(SHOP)).reveal()]
    for seconds in (3239, 2):
        at.now += seconds
        tokens.append((await access.token(SHOP)).reveal())
    assert tokens == ["t1", "t1", "t2"]
    assert source.asked == 2


async def test_a_token_that_nobody_knows_the_end_of_is_asked_for_each_time(scripted: tuple[Access, Scripted]) -> None:
    access, source = scripted
    source.lasts = None
    assert [(await access.token(SHOP)).reveal() for _ in range(3)] == ["t1", "t2", "t3"]


async def test_while_no_other_can_be_had_a_token_is_used_to_its_end_and_no_longer(scripted: tuple[Access, Scripted], at: Clock) -> None:
    access, source = scripted
    first = await access.token(SHOP)
    source.down = True
    at.now += 3500
    assert await access.token(SHOP) == first
    # It's asked for again after half a minute, and not at every question until then.
    source.down = False
    at.now += 29
    assert await access.token(SHOP) == first
    source.down = True
    at.now += 72
    with pytest.raises(AdminApiError, match="away"):
        await access.token(SHOP)
    source.down = False
    assert (await access.token(SHOP)).reveal() == "t2"


async def test_a_token_that_was_refused_is_never_used_again_though_no_other_can_be_had(scripted: tuple[Access, Scripted]) -> None:
    access, source = scripted
    first = await access.token(SHOP)
    source.down = True
    for _ in range(2):
        with pytest.raises(AdminApiError, match="away"):
            await access.token(SHOP, refused=first)


async def test_of_many_who_want_one_shops_token_at_once_one_asks(scripted: tuple[Access, Scripted]) -> None:
    access, source = scripted
    assert len(set(await asyncio.gather(*(access.token(SHOP) for _ in range(20))))) == 1
    first = await access.token(SHOP)
    # All of them had been refused the same one: the first to come renews it for the others.
    assert {t.reveal() for t in await asyncio.gather(*(access.token(SHOP, refused=first) for _ in range(20)))} == {"t2"}
    assert source.asked == 2


async def test_a_shop_that_installs_the_app_is_known_within_a_minute_and_one_that_leaves_is_gone(scripted: tuple[Access, Scripted],
                                                                                                 at: Clock) -> None:  # fmt: skip
    access, source = scripted
    assert await access.shops() == [SHOP]
    source.listed = (OTHER,)
    at.now += 59
    assert await access.shops() == [SHOP]
    at.now += 2
    assert await access.shops() == [OTHER]
    assert access.listed == {OTHER}
    with pytest.raises(SettingsError, match=f"no token for {SHOP}"):
        await access.shops([SHOP])


async def test_while_nobody_lists_the_shops_the_known_ones_are_gone_on_with(scripted: tuple[Access, Scripted], at: Clock) -> None:
    access, source = scripted
    source.down = True
    with pytest.raises(AdminApiError, match="away"):
        await access.shops()
    source.down = False
    assert await access.shops() == [SHOP]
    source.down = True
    at.now += 61
    assert await access.shops([SHOP]) == [SHOP]
