"""Takes a failed event to its retry or dead-letter topic: produced, acknowledged, recorded, and only then finished."""

import asyncio
from collections.abc import Callable

from hooktape import log
from hooktape.consumers.letters import Letter
from hooktape.errors import RecordTooLarge, TapeError
from hooktape.tape import headers
from hooktape.tape.publisher import Publisher

_log = log.get("hooktape.consumers")
# Between tries while Kafka doesn't take a record, in seconds. The event stays unfinished all the while.
_PAUSES = (0.1, 0.3, 1.0, 3.0, 5.0)


class Handover:
    """Letters under way. A letter is tried until Kafka has acknowledged it or the worker stops: nothing is given up.
    `broken` gets an error that isn't the tape's."""

    def __init__(self, publisher: Publisher, broken: Callable[[BaseException], None]) -> None:
        self._publisher, self._broken = publisher, broken
        self._under_way: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._under_way)

    def send(self, letter: Letter, arrived: Callable[[], None]) -> None:
        """Produces it in the background; `arrived` is called on the loop when it's acknowledged."""
        task = asyncio.get_running_loop().create_task(self._insist(letter, arrived))
        self._under_way.add(task)
        task.add_done_callback(self._look)

    def _look(self, task: "asyncio.Task[None]") -> None:
        self._under_way.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._broken(error)  # the letter's event would hang for ever

    async def settle(self, within: float) -> None:
        """Waits for what is under way, `within` seconds at most; what hasn't arrived then is unfinished and will run again."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=within)
        for task in self._under_way:
            task.cancel()

    async def _insist(self, letter: Letter, arrived: Callable[[], None]) -> None:
        tries = 0
        while True:
            try:
                await self._publisher.publish(letter.topic, letter.value, key=letter.key, extra=letter.headers)
                break
            except RecordTooLarge as error:
                # Our own headers put it over the limit: the stack is worth least.
                before, letter = letter, _without_stack(letter)
                if letter.headers == before.headers:
                    _log.error("a failed event is larger than its topic takes and stays unfinished: `hooktape topics apply` mends the "
                               "topic's max.message.bytes", topic=letter.topic, error=str(error))  # fmt: skip
            except TapeError as error:
                _log.warning("a failed event can't be handed on yet; it stays unfinished", topic=letter.topic, error=str(error))
            await asyncio.sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1
        arrived()


def _without_stack(letter: Letter) -> Letter:
    kept = [(name, value) for name, value in letter.headers if name != headers.ERROR_STACK]
    return Letter(letter.topic, letter.key, letter.value, kept)
