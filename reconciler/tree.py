"""Which lines of a bulk operation's file have a parent: kept in memory while there are few, on disk when there are many."""

import sqlite3
import tempfile
from collections import Counter
from types import TracebackType
from typing import Self

IN_MEMORY = 100_000
"""Lines whose ids are kept in memory: about 20 MB."""


class Tree:
    """Parents and children, in any order: a child's line may come long before its parent's. Close it."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._most = in_memory
        self._parents: set[str] = set()
        self._children: Counter[str] = Counter()
        self._file: tempfile.TemporaryDirectory[str] | None = None
        self._disk: sqlite3.Connection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Removes what is on disk."""
        if self._disk is not None:
            self._disk.close()
            self._disk = None
        if self._file is not None:
            self._file.cleanup()
            self._file = None

    def parent(self, gid: str) -> None:
        self._parents.add(gid)
        self._spill()

    def child(self, of: str) -> None:
        self._children[of] += 1
        self._spill()

    def orphans(self) -> int:
        """How many parents of children have no line of their own."""
        if self._disk is None:
            return len(self._children.keys() - self._parents)
        self._flush()
        return self._one("SELECT COUNT(*) FROM children WHERE NOT EXISTS (SELECT 1 FROM parents WHERE parents.id = children.id)")

    def cut(self, at: int) -> int:
        """How many parents have exactly `at` children."""
        if self._disk is None:
            return sum(count == at for count in self._children.values())
        self._flush()
        return self._one("SELECT COUNT(*) FROM children WHERE count = ?", at)

    @property
    def on_disk(self) -> bool:
        return self._disk is not None

    def _one(self, query: str, *values: int) -> int:
        assert self._disk is not None
        return int(self._disk.execute(query, values).fetchone()[0])

    def _spill(self) -> None:
        if len(self._parents) + len(self._children) >= self._most:
            self._flush()

    def _flush(self) -> None:
        if self._disk is None:
            self._file = tempfile.TemporaryDirectory(prefix="hooktape-bulk-")
            # Calls come from whatever thread reads the file, one at a time.
            self._disk = sqlite3.connect(f"{self._file.name}/tree.db", check_same_thread=False)
            # It lives as long as this object: a crash takes nothing along that anybody would look for.
            self._disk.executescript("""PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;
                CREATE TABLE parents (id TEXT PRIMARY KEY) WITHOUT ROWID;
                CREATE TABLE children (id TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;""")
        with self._disk:
            self._disk.executemany("INSERT OR IGNORE INTO parents VALUES (?)", ((gid,) for gid in self._parents))
            self._disk.executemany("INSERT INTO children VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET count = count + excluded.count",
                                   self._children.items())  # fmt: skip
        self._parents.clear()
        self._children.clear()
