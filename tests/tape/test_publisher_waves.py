"""The publisher's waves: what is published while one is under way follows it, whole and in order."""

import asyncio

import pytest

from hooktape.errors import SettingsError
from hooktape.settings import Settings
from hooktape.tape import topics
from hooktape.tape.names import Names
from hooktape.tape.publisher import Publisher


def test_records_published_in_bursts_are_acknowledged_in_order(settings: Settings) -> None:
    topics.apply(settings)
    log = Names(settings.topic_prefix).other

    async def main() -> list[int]:
        publisher = Publisher(settings)
        await publisher.warm_up([log], 10)
        futures = []
        for burst in range(20):
            futures += [publisher.publish(log, b"%d" % n, key="k", extra={}) for n in range(burst)]
            await asyncio.sleep(0.001 * (burst % 3))  # some bursts fall into a wave, some between two
        offsets = [at.offset for at in await asyncio.gather(*futures)]
        await publisher.close()
        return offsets

    offsets = asyncio.run(main())
    assert offsets == list(range(offsets[0], offsets[0] + 190))


def test_closing_delivers_what_waits_behind_a_wave(settings: Settings) -> None:
    topics.apply(settings)
    log = Names(settings.topic_prefix).other

    async def main() -> int:
        publisher = Publisher(settings)
        first = publisher.publish(log, b"1", key="k", extra={})
        await asyncio.sleep(0)  # the first wave is under way
        others = [publisher.publish(log, b"2", key="k", extra={}) for _ in range(100)]
        await publisher.close(10)
        return sum(future.done() and future.exception() is None for future in [first, *others])

    assert asyncio.run(main()) == 101


def test_a_property_that_librdkafka_does_not_know_is_an_error_of_the_settings() -> None:
    async def main() -> None:
        Publisher(Settings(kafka="127.0.0.1:1", kafka_properties={"no.such.thing": "1"}))

    with pytest.raises(SettingsError, match=r"no\.such\.thing.*HOOKTAPE_KAFKA_"):
        asyncio.run(main())
