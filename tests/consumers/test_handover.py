"""Letters on their way: what Kafka doesn't take is tried on, and said."""

import asyncio

import pytest

from hooktape.consumers import handover
from hooktape.consumers.handover import Handover
from hooktape.consumers.letters import Letter
from hooktape.errors import RecordTooLarge
from hooktape.schemas.event import Coordinates
from hooktape.tape import headers

from .conftest import until


class Tape:
    """Takes nothing larger than its limit, counted in headers."""

    def __init__(self, most: int) -> None:
        self.most, self.tries = most, list[int]()

    async def publish(self, topic: str, value: bytes | None, *, key: bytes | None, extra: headers.Packed) -> Coordinates:
        self.tries.append(len(extra))
        if len(extra) > self.most:
            raise RecordTooLarge("over 1 MB")
        return Coordinates(topic, 0, 1)


@pytest.mark.parametrize("most", [1, 0])
def test_a_letter_too_large_goes_without_its_stack_and_else_stays_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, most: int
) -> None:
    monkeypatch.setattr(handover, "_PAUSES", (0.0,))
    letter = Letter("p.dlq.g", b"k", b"v", headers.pack({headers.ATTEMPTS: "1", headers.ERROR_STACK: "…"}))

    async def main() -> None:
        tape, arrived = Tape(most), list[bool]()
        made = Handover(tape, lambda _: None)  # type: ignore[arg-type]
        made.send(letter, lambda: arrived.append(True))
        await until(lambda: arrived or len(tape.tries) > 3)
        assert (bool(arrived), tape.tries[:2]) == (bool(most), [2, 1])
        await made.settle(0)

    asyncio.run(main())
    assert ("larger than its topic takes" in caplog.text) == (not most)
