"""Lists of tens of thousands and more: as bulk operations, read in portions as if they were pages.

    noted in the ledger ─▶ begun ─▶ polled ─▶ downloaded to disk ─▶ read in portions ─▶ judged ─▶ forgotten

What an operation says of itself is judged, never believed: COMPLETED with no rows, children cut short or away from their parents,
and partial data prove nothing about what they don't show. Decisions are pure; the class below asks, waits and reads.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, BinaryIO

import httpx
import msgspec

from hooktape import log
from hooktape.errors import AdminApiError
from hooktape.ledger.bulk import BulkOperation
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler import api, queries
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.family import Family
from hooktape.reconciler.moves import Listed, Row
from hooktape.reconciler.tree import Tree

_log = log.get("hooktape.reconciler")

ESTIMATE = 5_000
"""Resources from which on a bulk operation is cheaper than pages: 20 pages of 250."""
PAGED_LIMIT = 20_000
"""Rows of one paged list before it's begun anew in bulk: Shopify pages through 25,000 objects at most."""
SLOTS = 2
"""Operations of ours at a time: Shopify runs 5 for an app and a shop, and the app has other work."""
PORTION = 5_000
"""Lines between two looks at the rest of the world: a few megabytes."""
_TRIES = 5  # of a download that breaks off, each from where the last one ended
_RUN_POINTS, _SEE_POINTS, _LATEST_POINTS = 10, 5, 50
_IN_FILE = "file"  # where a list goes on whose file is being read
Window = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. Polling begins at `first` and doubles to `most`; after `deadline` an operation is given up."""

    first: float = 10.0
    most: float = 60.0
    deadline: float = 6 * 3600.0

    def after(self, polls: int) -> float:
        return min(self.most, self.first * 2.0 ** min(polls, 16))


# ── decisions ───────────────────────────────────────────────────────────────────────────────────────────────────────
@dataclass(frozen=True, slots=True)
class Seen:
    """What Shopify says of an operation."""

    status: str
    error: str | None = None
    url: str | None = None
    objects: int = 0
    roots: int = 0

    @classmethod
    def of(cls, node: Mapping[str, Any] | None) -> "Seen":
        if not node:
            return cls("UNKNOWN")
        return cls(node["status"], node["errorCode"], node["url"], int(node["objectCount"]), int(node["rootObjectCount"]))


@dataclass(slots=True)
class Read:
    """What was found in the file."""

    lines: int = 0
    roots: int = 0
    broken: int = 0
    orphans: int = 0
    cut: int = 0


def running(seen: Seen) -> bool:
    """Whether to ask again later."""
    return seen.status in ("CREATED", "RUNNING", "CANCELING")


def refused(seen: Seen) -> str:
    """Why there's nothing to read although the operation has ended; "": there may be."""
    if seen.status == "UNKNOWN":
        return "the bulk operation is gone: Shopify keeps them for a week"
    if seen.status != "COMPLETED":
        # Partial data may be compared, but shows nothing by what it lacks: not worth its while.
        return f"the bulk operation is {seen.status} ({seen.error or 'no reason given'})"
    if seen.url is None and seen.objects:
        return f"the bulk operation counted {seen.objects} objects and has no address"
    return ""


def verdict(seen: Seen, read: Read) -> str:
    """Why the file proves nothing about what it doesn't show; "": it's whole."""
    if read.broken:
        return f"{read.broken} lines of the bulk operation's file can't be read"
    if (read.lines, read.roots) != (seen.objects, seen.roots):
        return f"the bulk operation counted {seen.objects} objects of {seen.roots} roots, and its file has {read.lines} of {read.roots}"
    if read.orphans:
        return f"{read.orphans} parents of lines in the bulk operation's file have no line themselves"
    if read.cut:
        return f"{read.cut} lists in the bulk operation end at exactly {api.CUT_AT}, where Shopify is known to cut them"
    return ""


# ── asking, waiting, reading ────────────────────────────────────────────────────────────────────────────────────────
@dataclass(slots=True)
class _Reading:
    """A file on its way through."""

    seen: Seen
    file: BinaryIO
    tree: Tree = field(default_factory=Tree)
    read: Read = field(default_factory=Read)


class Lister:
    """Pages of a family's list, from pages or from a bulk operation: whoever asks needn't know which.

    For one list at a time: `await page(client, family, search, after)` until `after` is None. Close it: its file may have the size of the
    shop (150 bytes an order). `clock` gives epoch seconds. `lane`: operations of another lane on the same family are nobody's here.
    """

    def __init__(
        self,
        ledger: Ledger,
        http: httpx.AsyncClient,
        *,
        pace: Pace | None = None,
        estimate: int = ESTIMATE,
        paged_limit: int = PAGED_LIMIT,
        portion: int = PORTION,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        lane: str = "",
    ) -> None:
        self._lane = lane
        self._ledger, self._http, self._clock, self._sleep = ledger, http, clock, sleep
        self._pace = pace or Pace()
        self._estimate, self._limit, self._portion = estimate, paged_limit, portion
        self._reading: _Reading | None = None

    def _name(self, family: Family) -> str:
        """Under which the ledger has its operations."""
        return f"{family.name}/{self._lane}" if self._lane else family.name

    def close(self) -> None:
        """Gives up a file that wasn't read to its end."""
        if self._reading is None:
            return
        self._reading.tree.close()
        with contextlib.suppress(OSError):
            self._reading.file.close()
        self._reading = None

    async def resumable(self, shop: str, family: Family) -> Window | None:
        """The window of an operation that an earlier process began and nobody has read: look at that one, and it's resumed."""
        found = await asyncio.to_thread(self._ledger.bulk.open, shop, self._name(family))
        # A sweep's has none, and is its own affair.
        return next((one.window for one in found if one.window is not None and self._fresh(one)), None)

    def _fresh(self, one: BulkOperation) -> bool:
        return self._clock() - one.begun < self._pace.deadline

    async def page(self, client: AdminClient, family: Family, search: str, after: str | None, window: Window | None = None) -> Listed:
        """The next portion of the list; `Listed.incomplete` in the last one says why it can't be relied upon.

        `window` is noted with a bulk operation (see `resumable`). Raises AdminApiError.
        """
        if after == _IN_FILE and self._reading is not None:
            return await asyncio.to_thread(self._next, self._reading, client.shop, family, search)
        self.close()
        if after is None and await self._large(client, family, search, window):
            return await self._bulk(client, family, search, window)
        count, _, place = (after or "0|").partition("|")
        if int(count) >= self._limit:
            # The pages so far were for nothing.
            return replace(await self._bulk(client, family, search, window), anew=True)
        found = await api.page(client, family, search, place or None)
        if found.after is None:
            return found
        return Listed(found.rows, f"{int(count) + len(found.rows)}|{found.after}", found.roots, found.incomplete)

    async def _large(self, client: AdminClient, family: Family, search: str, window: Window | None) -> bool:
        found = await asyncio.to_thread(self._ledger.bulk.open, client.shop, self._name(family))
        for other in found:
            # A list of everything goes on beside those of windows: a sweep and a fast pass know nothing of each other.
            if other.search != search and (other.window is None) == (window is None):
                # Its window will never be asked for again: only what is ours is cancelled.
                await self._give_up(client, family, other.search, other.gid)
        if any(other.search == search for other in found):
            return True
        return family.counts(search) and (await api.count(client, family, search)).count >= self._estimate

    async def _bulk(self, client: AdminClient, family: Family, search: str, window: Window | None) -> Listed:
        """Begins or takes up the operation and waits for its end: seconds to hours. The first portion."""
        begun = self._clock()
        gid, polls = await self._begin(client, family, search, window, begun), 0
        while running(seen := await self._see(client, gid)):
            if self._clock() - begun > self._pace.deadline:
                await self._give_up(client, family, search, gid)
                return Listed((), None, 0, f"the bulk operation took longer than {self._pace.deadline:g} s and was cancelled")
            await self._sleep(self._pace.after(polls))
            polls += 1
        if why := refused(seen):
            await self._forget(client.shop, family, search)
            return Listed((), None, 0, why)
        file = tempfile.TemporaryFile(prefix="hooktape-bulk-")  # noqa: SIM115 - closed with its reading
        try:
            if seen.url is not None:
                await self._download(client, gid, seen.url, file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        self._reading = _Reading(seen, file)
        return await asyncio.to_thread(self._next, self._reading, client.shop, family, search)

    async def _begin(self, client: AdminClient, family: Family, search: str, window: Window | None, now: float) -> str:
        open_ = await asyncio.to_thread(self._ledger.bulk.open, client.shop)
        own = next((one for one in open_ if (one.family, one.search) == (self._name(family), search)), None)
        if own is not None and not self._fresh(own):
            # A list of everything has the same search for ever, and Shopify keeps what it showed last week.
            await self._give_up(client, family, search, own.gid)
            own = None
        if own is not None and own.gid is not None:
            return own.gid
        text, polls = queries.bulk(family.listing, search), 0
        if own is not None and (gid := await self._adopted(client, text, own.begun)):
            await asyncio.to_thread(self._ledger.bulk.began, client.shop, self._name(family), search, gid)
            return gid
        while True:
            # What nobody has read within the deadline nobody waits for: it was left by a run that wasn't begun again.
            others = sum((one.family, one.search) != (self._name(family), search) and self._fresh(one) for one in open_)
            if others < SLOTS:
                await asyncio.to_thread(self._ledger.bulk.begin, client.shop, self._name(family), search, window, self._clock())
                # Where its answer is lost it's in the ledger without an id, and the next pass finds it by its query.
                answer = (await client.ask(queries.BULK_RUN, {"query": text}, _RUN_POINTS, once=True)).data["bulkOperationRunQuery"]
                if answer["bulkOperation"]:
                    gid = str(answer["bulkOperation"]["id"])
                    await asyncio.to_thread(self._ledger.bulk.began, client.shop, self._name(family), search, gid)
                    return gid
                await self._forget(client.shop, family, search)
                if {error["code"] for error in answer["userErrors"]} - {"OPERATION_IN_PROGRESS", "LIMIT_REACHED"}:
                    why = "; ".join(str(error["message"]) for error in answer["userErrors"])[:200]
                    raise AdminApiError(f"{client.shop} refused a bulk operation: {why}", reason="bulk_refused")
            if self._clock() - now > self._pace.deadline:
                # No smaller window would find a place.
                raise AdminApiError(f"no bulk operation of {client.shop} began within {self._pace.deadline:g} s: all places are taken",
                                    reason="bulk_places")  # fmt: skip
            await self._sleep(self._pace.after(polls))
            polls += 1
            open_ = await asyncio.to_thread(self._ledger.bulk.open, client.shop)

    async def _adopted(self, client: AdminClient, text: str, begun: float) -> str | None:
        """What a process began that died before it could note the id: the operation of this very query, made since."""
        nodes = (await client.ask(queries.BULK_LATEST, {}, _LATEST_POINTS)).data["bulkOperations"]["nodes"]
        # A second off: Shopify's times are whole seconds. A minute: its clock isn't ours.
        return next((str(node["id"]) for node in nodes if node["query"] == text
                     and datetime.fromisoformat(node["createdAt"]).timestamp() >= begun - 61), None)  # fmt: skip

    async def _see(self, client: AdminClient, gid: str) -> Seen:
        return Seen.of((await client.ask(queries.BULK_SEE, {"id": gid}, _SEE_POINTS)).data["node"])

    async def _give_up(self, client: AdminClient, family: Family, search: str, gid: str | None) -> None:
        if gid is not None and running(await self._see(client, gid)):
            await client.ask(queries.BULK_CANCEL, {"id": gid}, _RUN_POINTS)
        await self._forget(client.shop, family, search)
        _log.warning("a bulk operation of ours was given up", shop=client.shop, family=family.name, operation=gid or "not begun")

    async def _forget(self, shop: str, family: Family, search: str) -> None:
        await asyncio.to_thread(self._ledger.bulk.end, shop, self._name(family), search)

    async def _download(self, client: AdminClient, gid: str, url: str, file: BinaryIO) -> None:
        """The file to disk, going on where a connection broke off. Raises AdminApiError after several that brought nothing new."""
        failed, furthest, last = 0, 0, ""
        while failed < _TRIES:
            had, packed = file.tell(), False
            # A range counts the bytes that are sent: compressed ones aren't those that the file has.
            headers = {"Accept-Encoding": "identity", **({"Range": f"bytes={had}-"} if had else {})}
            try:
                async with self._http.stream("GET", url, headers=headers) as response:
                    packed = response.headers.get("Content-Encoding", "identity") != "identity"
                    if response.status_code == 200 and had:
                        # It doesn't go on in the middle: from the start again.
                        file.seek(0)
                        file.truncate()
                    elif response.status_code == 416:
                        return
                    response.raise_for_status()
                    async for chunk in response.aiter_bytes():
                        await asyncio.to_thread(file.write, chunk)
                    return
            except httpx.HTTPStatusError as error:
                # The address may have run out: a new one is in the operation.
                last = f"status {error.response.status_code}"
                url = (await self._see(client, gid)).url or url
            except httpx.RequestError as error:
                last = type(error).__name__
                if packed:
                    file.seek(0)
                    file.truncate()
            # Of one that begins at the start each time only what goes beyond all before it is new.
            failed = 0 if file.tell() > furthest else failed + 1
            furthest = max(furthest, file.tell())
            await self._sleep(self._pace.after(failed))
        raise AdminApiError(f"the file of {client.shop}'s bulk operation couldn't be had ({last}); the next pass tries again",
                            reason="bulk_download")  # fmt: skip

    def _next(self, reading: _Reading, shop: str, family: Family, search: str) -> Listed:
        """The next portion of the file; after the last one the verdict."""
        before = reading.read.roots
        rows: list[Row] = []
        ended = True
        for count, line in enumerate(reading.file, 1):
            rows.extend(_rows(family, line, reading))
            if count >= self._portion:
                ended = False
                break
        roots = reading.read.roots - before
        if not ended:
            return Listed(tuple(rows), _IN_FILE, roots)
        reading.read.orphans, reading.read.cut = reading.tree.orphans(), reading.tree.cut(api.CUT_AT)
        why = verdict(reading.seen, reading.read)
        self.close()
        self._ledger.bulk.end(shop, self._name(family), search)
        return Listed(tuple(rows), None, roots, why)


def _rows(family: Family, line: bytes, reading: _Reading) -> Iterator[Row]:
    try:
        node = msgspec.json.decode(line)
    except msgspec.DecodeError:
        reading.read.broken += 1
        return
    reading.read.lines += 1
    listing, parent = family.listing, node.get("__parentId")
    if parent is not None:
        reading.tree.child(parent)
        yield from api.rows_of(family, (node,))
        return
    reading.read.roots += 1
    if not listing.inside:
        yield from api.rows_of(family, (node,))
    elif listing.connection:
        reading.tree.parent(node["id"])
    else:
        yield from api.rows_of(family, node[listing.inside])
