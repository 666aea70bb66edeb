"""A block with reconcilers: a shop loses webhooks, two processes look for them, and both are killed and frozen at every step."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hooktape.ledger.ledger import Ledger
from hooktape.local.processes import Service
from hooktape.local.soak import workload
from hooktape.local.soak.faults import RECONCILE_LEASE
from hooktape.local.soak.history import Handler, History
from hooktape.local.soak.reconcile_rules import missed
from hooktape.local.soak.services import Servers, Slot
from hooktape.local.soak.shopping import DOMAIN, Shopping
from hooktape.local.soak.view import View
from hooktape.local.soak.watching import Sampler, Shelf
from hooktape.local.soak.witness import INGESTS, Block, Plan, Played
from hooktape.tape.names import Kind
from hooktape.times import format_duration

RECONCILERS = 2
"""As many as contend for one lease: a third would only wait."""
GRACE = 4.0
PASSES = {"INTERVAL": 1.0, "LOOKBACK_INTERVAL": 30.0, "LOOKBACK": 120.0, "SWEEP_INTERVAL": 8.0, "OVERLAP": 5.0, "LAG": 1.0, "GRACE": GRACE,
          "SUSPECT": 2.0, "APART": 2.0, "LEASE": RECONCILE_LEASE}  # fmt: skip
"""The reconciler's schedule: Shopify's minutes as seconds, its days as half minutes."""
ARMED_SECONDS = 30.0
"""How long a reconciler may take to its crash point: another may have the shop first, and not each pass finds something to record."""
ROOM_SECONDS = 15.0
"""How long a round waits until no crash point but one is due at a reconciler: what else happens, happens on the way to them."""
CAUGHT_UP_SECONDS = 90.0
"""A deletion that only a sweep finds waits for the overlap, the sweep, two looks and the grace: some 20 s on a quiet machine."""
_PRELUDE_SECONDS = 30.0
_START_SECONDS = 20.0
"""Younger than this, one may not have come to where it learns of signals: eleven were measured on a busy machine."""
_BETWEEN_LOOKS = 1.0


class Reconciling(Block):
    """A block of rounds; its webhooks are a local shop's."""

    workers, partitions, rate = 2, 3, 10.0
    topics = workload.SHOP_TOPICS

    def __init__(self, plan: Plan, servers: Servers, home: Path, progress: Callable[[str], None]) -> None:
        super().__init__(plan, servers, home, progress)
        self._shopping = Shopping(plan.seed, plan.block, GRACE)
        self._grace = GRACE

    async def run(self) -> History:
        """As every block's; the shop's Admin API answers until its end."""
        async with self._shopping.shop:
            return await super().run()

    def _webhooks(self) -> Iterator[workload.Webhook]:
        return self._shopping.webhooks()

    def _handlers(self) -> list[Handler]:
        return workload.handlers(self._plan.ledger, shop=True)

    def _environment(self) -> dict[str, str]:
        shop = self._shopping.shop
        passes = {f"HOOKTAPE_RECONCILE_{name}": format_duration(seconds) for name, seconds in PASSES.items()}
        return super()._environment() | passes | {
            "SOAK_SHOP": "1", "HOOKTAPE_SHOP_TOKENS": f"{DOMAIN}={shop.token}", "HOOKTAPE_ADMIN_URL": shop.admin_url,
        }  # fmt: skip

    async def _play(self, ledger: Ledger, shelf: Shelf, sampler: Sampler) -> Played:
        async with self._staged(INGESTS):
            async with self._posting() as posting:
                # Coverage begins with the tape: what is lost before a family's first record was never missing.
                await self._until(lambda: self._begun(posting.accepted), _PRELUDE_SECONDS)
                self._reconcile()
                self._shopping.unreliable = True
                await self._rounds()
                await self._heal()
            caught_up = await self._catch_up(shelf)
            await self._retire()
        self._progress(f"{time.monotonic() - self._began:6.1f} s  {caught_up}")
        return Played(posting.posts, changes=self._shopping.changes)

    def _begun(self, accepted: set[str]) -> bool:
        told = {change.topic.partition("/")[0] for change in self._shopping.changes if change.wid in accepted}
        return told >= {topic.partition("/")[0] for topic in self.topics}

    def _reconcile(self) -> None:
        env = self._environment()
        for number in range(RECONCILERS):
            name = f"reconciler-{number}"
            self._services.slots.append(Slot("reconciler", name, ["reconcile"], env, self._home / f"{name}.log",
                                             patience=ARMED_SECONDS, starts_within=_START_SECONDS, insistent=True))  # fmt: skip

    async def _make_room(self, slots: Sequence[Slot]) -> None:
        await self._until(lambda: any(not slot.due for slot in slots), ROOM_SECONDS)

    async def _catch_up(self, shelf: Shelf) -> str:
        """Waits until the shop's newest states are on the tape; the rules say what of them isn't, so that this only takes its time."""
        began = time.monotonic()
        lacking, accepted = 0, False
        while time.monotonic() - began < CAUGHT_UP_SECONDS:
            records, _ = await asyncio.to_thread(shelf.read, [Kind.LOG])
            lacking = len(list(missed(View(History(records=records, changes=self._shopping.changes)))))
            if lacking and not accepted and time.monotonic() - began > CAUGHT_UP_SECONDS / 2:
                # After a long outage more deletions are due than a pass may record: an operator agrees to them.
                accepted = await self._accept()
            if not lacking:
                # Whoever would record it all once more has two passes for it.
                await asyncio.sleep(2 * PASSES["INTERVAL"] + GRACE)
                return f"the tape has all of the shop, {time.monotonic() - began:.1f} s after the last fault"
            await asyncio.sleep(_BETWEEN_LOOKS)
        return f"the tape still lacks {lacking} states of the shop"

    async def _accept(self) -> bool:
        words = ["reconcile", "--once", "--accept-deletes"]
        service = Service("operator", words, self._environment(), self._home / "operator.log")
        await asyncio.to_thread(service.wait, CAUGHT_UP_SECONDS)
        return service.code == 0

    async def _retire(self) -> None:
        """The reconcilers end, so that the tape does, too."""
        for slot in self._services.of("reconciler"):
            slot.restarts = False
            self._services.term(slot)
        await self._until(lambda: all(slot.service.code is not None for slot in self._services.of("reconciler")), CAUGHT_UP_SECONDS)
