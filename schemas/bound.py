"""What a worker lends to an event while a handler has it: types only, so that `Event` stays free of I/O."""

from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from psycopg import AsyncConnection, Connection

Kind = type[BaseException] | None


class Block(Protocol):
    """`event.transaction()`: for `with` in plain functions and `async with` in asynchronous ones."""

    def __enter__(self) -> "Connection[tuple[Any, ...]]": ...

    def __exit__(self, kind: Kind, error: BaseException | None, trace: TracebackType | None) -> bool | None: ...

    async def __aenter__(self) -> "AsyncConnection[tuple[Any, ...]]": ...

    async def __aexit__(self, kind: Kind, error: BaseException | None, trace: TracebackType | None) -> bool | None: ...


class Bound(Protocol):
    """One try of one event."""

    def transaction(self) -> Block:
        """Raises SettingsError where there's no database for it."""
        ...
