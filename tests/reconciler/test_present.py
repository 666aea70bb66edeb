"""The present versions of resources, asked for by whoever compares something with Shopify."""

import time

import pytest

from hooktape.ledger.budgets import admin_scope
from hooktape.ledger.ledger import Ledger
from hooktape.local.shop.server import LocalShop
from hooktape.reconciler.pacing import share_scope
from hooktape.reconciler.present import Shops
from hooktape.settings import Secret, Settings

pytestmark = pytest.mark.anyio


async def test_versions_are_asked_for_out_of_the_budget_that_all_processes_share_and_a_level_is_not(ledger: Ledger) -> None:
    async with LocalShop(seed=3) as shop:
        while not (orders := shop.shop.live("order")):
            shop.shop.change(time.time())
        order, level = orders[0].name, "inventory_level/1-2"
        async with Shops(Settings(shop_tokens={shop.domain: Secret(shop.token)}, admin_url=shop.admin_url), ledger.budgets) as shops:
            found = await shops(shop.domain, [order, level])
    assert found[order] == orders[0].updated * 1_000_000
    # By a number that needn't be its location's it would look gone.
    assert "isn't asked for a inventory_level" in str(found[level])
    assert ledger.budgets.buckets([admin_scope(shop.domain), share_scope(shop.domain)]).keys() == {
        admin_scope(shop.domain), share_scope(shop.domain)}  # fmt: skip
