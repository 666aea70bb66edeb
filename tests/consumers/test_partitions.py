"""A group whose topics differ in their number of partitions: events of one resource would land in different workers."""

from dataclasses import replace

import pytest
from confluent_kafka.admin import NewPartitions

from hooktape.consumers.app import App
from hooktape.consumers.intake import Intake
from hooktape.consumers.options import Options
from hooktape.errors import SettingsError
from hooktape.schemas.event import Event
from hooktape.settings import Settings
from hooktape.tape import clients, topics


def intake(settings: Settings, topic: str = "orders/create") -> Intake:
    app = App("g")

    @app.on(topic)
    async def handle(event: Event) -> None: ...

    return Intake(app, settings, Options())


def grown(settings: Settings, name: str, partitions: int) -> None:
    """Waits until the broker knows what the controller has decided."""
    name = name if name.startswith(settings.topic_prefix) else f"{settings.topic_prefix}.log.{name}"
    while topics.look(settings, [name])[name].partitions != partitions:
        pass


def test_a_group_whose_topics_have_fewer_partitions_than_a_log_is_refused_by_name(settings: Settings) -> None:
    intake(settings).check_topics()
    topics.apply(replace(settings, partitions=3))  # without the group, as easily happens
    grown(settings, "orders.create", 3)
    with pytest.raises(SettingsError, match=r"some have 3, and .*replay.g has 2.*HOOKTAPE_PARTITIONS to 3.*--group g"):
        intake(settings).check_topics()
    topics.apply(replace(settings, partitions=3), ["g"])
    for name in topics.of_group(settings, "g"):
        grown(settings, name, 3)
    intake(settings).check_topics()


def test_logs_that_the_group_doesnt_read_may_have_any_number(settings: Settings) -> None:
    log = f"{settings.topic_prefix}.log.products.update"
    admin = clients.admin(settings)
    admin.create_partitions([NewPartitions(log, 4)])[log].result()
    grown(settings, log, 4)
    with pytest.raises(SettingsError, match=r"some have 4.*log\.other has 2"):
        intake(settings, "products/update").check_topics()
    intake(settings).check_topics()


def test_the_log_of_others_has_as_many_as_the_rest_since_each_group_reads_it(settings: Settings) -> None:
    topics.apply(replace(settings, topics=("products/update",), partitions=4))
    grown(settings, "other", 4)
    with pytest.raises(SettingsError, match=r"some have 4.*log\.orders\.create has 2"):
        intake(settings).check_topics()


def test_topics_that_have_fewer_than_the_most_are_the_odd_ones() -> None:
    assert topics.odd_partitions({"a": 3, "b": 3}) == (3, {})
    assert topics.odd_partitions({"a": 3, "c": 1, "b": 2}) == (3, {"b": 2, "c": 1})
    assert topics.odd_partitions({}) == (0, {})
