"""A client that has lost every broker, from its statistics."""

import json

from hooktape.tape.clients import Solitude


def told(**brokers: str) -> str:
    return json.dumps({"ts": 1, "brokers": {name: {"source": source, "tx": 3} for name, source in brokers.items()}})


ALONE = told(GroupCoordinator="logical", internal="internal")


def test_a_client_that_knows_a_broker_isnt_alone() -> None:
    solitude = Solitude()
    for source in ("configured", "learned"):
        solitude.hear(told(broker=source, GroupCoordinator="logical"))
        solitude.hear(told(broker=source))
        assert not solitude.lasts


def test_a_moment_between_two_lists_of_brokers_is_no_solitude() -> None:
    solitude = Solitude()
    for _ in range(3):
        solitude.hear(ALONE)
        assert not solitude.lasts
        solitude.hear(told(broker="learned"))
        assert not solitude.lasts


def test_two_looks_without_a_broker_are() -> None:
    for alone in (ALONE, told()):
        solitude = Solitude()
        solitude.hear(alone)
        solitude.hear(alone)
        assert solitude.lasts
