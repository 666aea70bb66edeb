"""Bulk operations: a query that runs by itself and leaves a file of lines, and all that has gone wrong with them.

A file is written to disk in portions, so that a million lines take no memory and hold nobody up.
"""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
from graphql import GraphQLError

from hooktape.local.shop import lists
from hooktape.local.shop.lines import Compiler, Root
from hooktape.schemas import samples

if TYPE_CHECKING:
    from hooktape.local.shop.admin import Admin

AT_ONCE = 5
"""Operations of one app that may run at a time (shopify.dev/changelog/faster-bulk-operations)."""
PORTION = 2_000
"""Lines between two looks at the rest of the world."""
_DONE = ("COMPLETED", "FAILED", "CANCELED")


@dataclass(slots=True)
class Operation:
    """One bulk operation. Times in seconds since the epoch; `due`: the earliest end."""

    number: int
    query: str
    created: float
    due: float
    work: Iterator[None] = field(repr=False)
    path: Path
    status: str = "CREATED"
    error: str | None = None
    objects: int = 0
    roots: int = 0
    completed: float | None = None
    url: str | None = None
    partial_url: str | None = None
    partial_at: float = 0.0
    written: bool = False

    @property
    def gid(self) -> str:
        return samples.gid("BulkOperation", self.number)

    def told(self) -> dict[str, Any]:
        """The body of bulk_operations/finish."""
        return {
            "admin_graphql_api_id": self.gid, "completed_at": samples.stamp(int(self.completed or self.created)),
            "created_at": samples.stamp(int(self.created)), "error_code": self.error and self.error.lower(),
            "status": self.status.lower(), "type": "query",
        }  # fmt: skip


class Bulk:
    """The operations of one app. `base`: the address under which their files are served, with `/bulk/<n>.jsonl` after it."""

    def __init__(self, admin: "Admin") -> None:
        self._admin = admin
        self._files: tempfile.TemporaryDirectory[str] | None = None
        self.base = ""
        self.operations: list[Operation] = []
        self.finished: list[Operation] = []
        """Ended, and not yet told of by a webhook: who sends it takes them off."""

    def close(self) -> None:
        """Removes the files."""
        if self._files is not None:
            self._files.cleanup()

    @property
    def running(self) -> list[Operation]:
        return [one for one in self.operations if one.status not in _DONE]

    def start(self, query: str, compiler: Compiler, root: Root) -> Operation | None:
        """Begins one; None: as many as there may be run already."""
        if len(self.running) >= AT_ONCE:
            return None
        now, number = self._admin.shop.clock(), 720_918_000_001 + len(self.operations)
        late = self._admin.incidents.on("bulk_late")
        # Most shops are never asked for one.
        self._files = self._files or tempfile.TemporaryDirectory(prefix="hooktape-shop-", ignore_cleanup_errors=True)
        path = Path(self._files.name) / f"{number}.jsonl"
        operation = Operation(number, query, now, now + (late["seconds"] if late else 0), iter(()), path)
        operation.work = self._work(operation, compiler, root)
        self.operations.append(operation)
        return operation

    def get(self, gid: str) -> Operation | None:
        return next((one for one in self.operations if one.gid == gid), None)

    def cancel(self, gid: str) -> Operation | None:
        operation = self.get(gid)
        if operation and operation.status not in _DONE:
            operation.status, operation.completed = "CANCELED", self._admin.shop.clock()
            self.finished.append(operation)
        return operation

    def advance(self) -> bool:
        """Works on every operation for one portion; whether any still runs."""
        for operation in self.running:
            operation.status = "RUNNING"
            try:
                if not operation.written and next(operation.work, operation) is operation:
                    operation.written = True
            except GraphQLError as error:
                operation.status, operation.error = "FAILED", (error.extensions or {}).get("code")
                operation.written, operation.completed = True, self._admin.shop.clock()
                self.finished.append(operation)
                continue
            if operation.written and self._admin.shop.clock() >= operation.due:
                self._end(operation)
        return bool(self.running)

    def finish(self) -> None:
        """Works until every operation has ended, or waits for the clock."""
        while any(not one.written for one in self.running):
            self.advance()
        self.advance()

    def file(self, name: str) -> Path | None:
        """The file behind an address, when it has one."""
        operation = next((one for one in self.operations if f"{one.number}.jsonl" == name), None)
        if operation is None:
            return None
        partial = operation.partial_url is not None and self._admin.shop.clock() >= operation.partial_at
        return operation.path if operation.url or partial else None

    def _end(self, operation: Operation) -> None:
        incidents, url = self._admin.incidents, f"{self.base}/bulk/{operation.number}.jsonl"
        operation.status, operation.completed = "COMPLETED", self._admin.shop.clock()
        self.finished.append(operation)
        if partial := incidents.on("bulk_partial"):
            operation.status, operation.error = "FAILED", "INTERNAL_SERVER_ERROR"
            lines = operation.path.read_bytes().splitlines(keepends=True)
            operation.path.write_bytes(b"".join(lines[: int(len(lines) * partial["share"])]))
            operation.partial_url, operation.partial_at = url, operation.completed + partial["seconds"]
        elif incidents.strikes("bulk_fails"):
            operation.status, operation.objects, operation.roots = "FAILED", 0, 0
        elif empty := incidents.on("bulk_empty"):
            os.truncate(operation.path, 0)
            operation.url = None if empty["url"] == "none" else url
        elif operation.objects:
            # An operation that found nothing has no address, and that is no fault.
            operation.url = url

    def _work(self, operation: Operation, compiler: Compiler, root: Root) -> Iterator[None]:
        """Writes the file; yields after each portion."""
        admin, kind = self._admin, lists.LISTS[root.field]
        asked = lists.understood(admin, kind, root.arguments.get("query"))
        shuffled = admin.incidents.is_on("bulk_shuffled")
        encode = msgspec.json.Encoder().encode
        held: list[bytes] = []
        with operation.path.open("wb") as file:
            for row in lists.found(admin, kind, root.arguments, asked):
                if operation.status == "CANCELED":
                    return
                for is_root, line in compiler.lines(lists.source(row), root.shapes, root.named):
                    operation.objects += 1
                    operation.roots += is_root
                    held.append(encode(line) + b"\n")
                if len(held) >= PORTION:
                    _write(file, held, admin.incidents.rng("bulk_shuffled") if shuffled else None)
                    yield
            _write(file, held, admin.incidents.rng("bulk_shuffled") if shuffled else None)


def _write(file: Any, held: list[bytes], rng: Random | None) -> None:
    if rng is not None:
        rng.shuffle(held)
    file.write(b"".join(held))
    held.clear()
