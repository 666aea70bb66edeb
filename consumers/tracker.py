"""Which offsets are finished, and what may be committed: the lowest incomplete one, with the finished ones above it.

One `Offsets` per partition and assignment. Only offsets that were fetched are known; a gap (a transaction marker, a
compacted record) is finished by definition. Offset and map are taken from one snapshot, or a crash could commit past an
unfinished event. Pure.
"""

import base64
import itertools
import zlib
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from hooktape.consumers.task import Home

WINDOW = 20_000
"""Offsets above a partition's lowest incomplete one that a commit's metadata tells of. As a bitmap that's 2,500 bytes and 3,344 in
base64, so the map always fits into the 4,096 bytes that a broker takes (offset.metadata.max.bytes). What was finished beyond it, the
ledger knows: after a crash it's fetched again, and skipped."""
REACH = 250_000
"""Most offsets that a partition is fetched beyond its lowest incomplete one, at about 100 bytes each. One handler that hangs until its
time-out of 30 s mustn't stop a partition that moves 8,000 events a second meanwhile."""
_MAGIC = "ht"
_VERSION = "1"


@dataclass(frozen=True, slots=True)
class Position:
    """What to commit for a partition."""

    offset: int
    metadata: str


def encode_finished(position: int, finished: Iterable[int]) -> str:
    """The finished offsets above `position` as commit metadata: magic, version, then a deflated bitmap; "" for none."""
    bits = bytearray(WINDOW // 8)
    last = -1
    for offset in finished:
        index = offset - position - 1
        if 0 <= index < WINDOW:
            bits[index >> 3] |= 1 << (index & 7)
            last = max(last, index)
    if last < 0:
        return ""
    packed = zlib.compress(bytes(bits[: (last >> 3) + 1]), 1)
    return f"{_MAGIC}{_VERSION}:" + base64.b64encode(packed).decode()


def decode_finished(position: int, metadata: str) -> set[int]:
    """The finished offsets that a commit at `position` carried. Raises ValueError for metadata that isn't ours or is damaged."""
    if not metadata:
        return set()
    head, _, body = metadata.partition(":")
    if head != _MAGIC + _VERSION:
        raise ValueError("the commit's metadata isn't of this version of Hooktape")
    try:
        inflate = zlib.decompressobj()
        bits = inflate.decompress(base64.b64decode(body, validate=True), WINDOW // 8)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"the commit's metadata is damaged: {error}") from None
    if not inflate.eof:
        raise ValueError("the commit's metadata is cut short or too long")
    return {position + 1 + 8 * i + bit for i, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1}


class Offsets:
    """One partition in one assignment, from the offset `base` on; `done` are finished above it already."""

    __slots__ = ("_done", "_next", "_open", "_order", "_said")

    def __init__(self, base: int, done: set[int] | None = None) -> None:
        self._next = base
        self._done = done or set()
        self._open: set[int] = set()
        self._order: deque[int] = deque()
        self._said: tuple[int, int] | None = None

    def add(self, offset: int) -> bool:
        """A record was fetched. False: it's finished or known, and must not be handled."""
        if offset < self._next:
            return False
        self._next = offset + 1
        self._order.append(offset)
        if offset in self._done:
            self._done.discard(offset)
            return False
        self._open.add(offset)
        return True

    def finish(self, offset: int) -> bool:
        """An event needs no more from this partition. False: it wasn't open."""
        if offset not in self._open:
            return False
        self._open.remove(offset)
        return True

    def jump(self, offset: int) -> None:
        """What comes next has the offset `offset`: records before it are gone. Where it lies behind what was read, the topic was made
        anew, and its offsets mean other records now."""
        if offset < self._next:
            self._open.clear()
            self._order.clear()
            self._done.clear()
        self._next = offset
        self._done = {done for done in self._done if done >= offset}

    @property
    def incomplete(self) -> int:
        """Events fetched and not finished."""
        return len(self._open)

    @property
    def position(self) -> int:
        """The lowest incomplete offset, or the next to be fetched."""
        order, still_open = self._order, self._open
        while order and order[0] not in still_open:
            order.popleft()
        return order[0] if order else self._next

    @property
    def window(self) -> int:
        """Offsets from the position to the highest fetched one."""
        return self._next - self.position

    def snapshot(self) -> Position:
        """What to commit now."""
        position = self.position
        told = itertools.takewhile(lambda offset: offset <= position + WINDOW, self._order)
        finished = [offset for offset in told if offset not in self._open]
        return Position(position, encode_finished(position, [*finished, *self._done]))

    def changed(self) -> Position | None:
        """What to commit, or None where nothing has changed since this was last asked."""
        state = (self.position, len(self._open) - len(self._order))
        if state == self._said:
            return None
        self._said = state
        return self.snapshot()


class Tracker:
    """The partitions that a consumer owns now. What comes back for an assignment that has ended is ignored."""

    def __init__(self) -> None:
        self.incomplete = 0
        """Events fetched and not finished, over all partitions."""
        self._offsets: dict[Home, Offsets] = {}

    def open(self, home: Home) -> bool:
        """An assignment begins. False: its commit's metadata wasn't ours; the map is an optimisation, so that is done without."""
        try:
            done, ours = decode_finished(home.base, home.metadata), True
        except ValueError:
            done, ours = set(), False
        self._offsets[home] = Offsets(home.base, done)
        return ours

    def close(self, home: Home) -> None:
        """An assignment has ended."""
        offsets = self._offsets.pop(home, None)
        if offsets is not None:
            self.incomplete -= offsets.incomplete

    def add(self, home: Home, offset: int) -> bool:
        """A record was fetched. True: it's to be handled."""
        offsets = self._offsets.get(home)
        if offsets is None or not offsets.add(offset):
            return False
        self.incomplete += 1
        return True

    def finish(self, home: Home, offset: int) -> None:
        """An event needs no more from its partition."""
        offsets = self._offsets.get(home)
        if offsets is not None and offsets.finish(offset):
            self.incomplete -= 1

    def jump(self, home: Home, offset: int) -> None:
        """Records before `offset` are gone from the topic (see `Offsets.jump`)."""
        offsets = self._offsets.get(home)
        if offsets is not None:
            self.incomplete -= offsets.incomplete
            offsets.jump(offset)
            self.incomplete += offsets.incomplete

    def pending(self, home: Home) -> int:
        """Events of one assignment fetched and not finished."""
        offsets = self._offsets.get(home)
        return offsets.incomplete if offsets else 0

    def position(self, home: Home) -> int:
        """The lowest incomplete offset of an assignment that is running, or the next to be fetched."""
        return self._offsets[home].position

    def window(self, home: Home) -> int:
        """Offsets between the partition's position and its highest fetched one; 0 for an assignment that has ended."""
        offsets = self._offsets.get(home)
        return offsets.window if offsets else 0

    def homes(self) -> list[Home]:
        """The assignments that are running."""
        return list(self._offsets)

    def commits(self) -> dict[Home, Position]:
        """What has changed since this was last asked."""
        found = {home: offsets.changed() for home, offsets in self._offsets.items()}
        return {home: position for home, position in found.items() if position is not None}

    def snapshot(self, homes: Iterable[Home]) -> dict[Home, Position]:
        """What to commit for `homes` now, changed or not."""
        return {home: self._offsets[home].snapshot() for home in homes if home in self._offsets}
