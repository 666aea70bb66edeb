"""Which version of a resource each handler has applied, for `skip_stale`: the ledger's word, and what this worker did since.

An entry lives as long as an event of it is in the worker: the ledger is asked again for the next one. Pure.
"""

Key = tuple[str, str, str]
"""Handler, shop, resource."""


class AppliedVersions:
    """Versions in microseconds of the resource's `updated_at`."""

    def __init__(self) -> None:
        self._entries: dict[Key, list[int]] = {}  # [events in the worker, highest version applied]

    def enter(self, key: Key, known: int | None) -> None:
        """An event of `key` comes in; `known` is what the ledger says was applied."""
        entry = self._entries.setdefault(key, [0, -1])
        entry[0] += 1
        entry[1] = max(entry[1], -1 if known is None else known)

    def is_stale(self, key: Key, version: int) -> bool:
        """Whether something newer was applied. The same version isn't stale: it may be another topic's view of it."""
        return key in self._entries and version < self._entries[key][1]

    def apply(self, key: Key, version: int) -> None:
        """The handler succeeded."""
        if key in self._entries:
            self._entries[key][1] = max(self._entries[key][1], version)

    def leave(self, key: Key) -> None:
        """An event of `key` goes; its success, if it had one, is in the ledger."""
        entry = self._entries.get(key)
        if entry is not None:
            entry[0] -= 1
            if entry[0] <= 0:
                del self._entries[key]

    def __len__(self) -> int:
        return len(self._entries)
