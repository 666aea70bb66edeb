"""Looks whether every partition of the group is read by somebody, and has this worker join anew when it's its turn (`unread.py`).

Asked is the ledger, not the broker. librdkafka's describe_consumer_groups aborts the process when its coordinator goes away or comes back
at the wrong moment (librdkafka#4605 and #5397, open; four of four observers of soaks died so, each of a broker's kill): what is to
mend a rare fault would end workers at every outage.
"""

import asyncio
from collections.abc import Callable, Collection

from hooktape import log
from hooktape.consumers import unread
from hooktape.consumers.clock import Clock
from hooktape.consumers.custody import Custody
from hooktape.consumers.tenures import Tenures
from hooktape.errors import HooktapeError

_log = log.get("hooktape.consumers")
EVERY = 15.0
"""Seconds between two looks: two short reads by index. The lease that each worker renews writes to the same tables once a second."""


class Vigil:
    """For one worker. `fail` gets an error that isn't the ledger's."""

    def __init__(self, group: str, custody: Custody, tenures: Tenures, clock: Clock, fail: Callable[[BaseException], None]) -> None:
        self._group, self._custody, self._tenures, self._clock, self._fail = group, custody, tenures, clock, fail
        self._unread = unread.Unread(unread.PATIENCE)
        self._next = clock.monotonic() + EVERY
        self._looking: asyncio.Task[None] | None = None

    def tick(self, now: float, numbers: int, topics: Collection[str]) -> None:
        """To be called several times a second, with how many partitions the group's `topics` have; `now` by the monotonic clock."""
        if now >= self._next and self._looking is None:
            self._next = now + EVERY
            self._looking = asyncio.get_running_loop().create_task(self._look(numbers, topics))

    def close(self) -> None:
        """Ends what is under way."""
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self, numbers: int, topics: Collection[str]) -> None:
        try:
            now = self._clock.time()
            owners, living = await self._custody.ask(
                lambda ledger: (ledger.ownership.owners(self._group), ledger.ownership.living(self._group, now)))  # fmt: skip
            shares = {name: {number for number, (owner, _) in owners.items() if owner == name} for name in living}
            sight = unread.Sight(self._custody.owner, numbers, shares, self._tenures.lacking(topics))
            if (gaps := self._unread.look(sight, self._clock.monotonic())) and self._tenures.member is not None:
                self._tenures.member.rejoin(unread.describe(gaps))
        except HooktapeError as error:
            _log.warning("whether all partitions are read couldn't be looked at; it's tried again", group=self._group, error=str(error))
        except Exception as error:  # noqa: BLE001 - silent, partitions that nobody reads would stay so
            self._fail(error)
        finally:
            self._looking = None
