"""What the reconciler records reaches a worker: transactions on the log, and the webhook that comes after its synthetic event."""

from hooktape.consumers.app import App
from hooktape.consumers.options import Options
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import figures, reset
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.figures import Lag
from hooktape.replayer.reset import Target, To
from hooktape.schemas import codec
from hooktape.schemas.event import RECONCILER, Event
from hooktape.settings import Settings
from hooktape.tape import clients, groups, headers
from hooktape.tape.reader import Reader
from hooktape.tape.transactions import Outgoing, Writer
from tests.tape.kit import settled

from .conftest import Tape, make_event, run, states


def outgoing(settings: Settings, event: Event) -> Outgoing:
    topic = f"{settings.topic_prefix}.log.{event.topic.replace('/', '.')}"
    return Outgoing(topic, event.lane, codec.encode(event), headers.of_event(event))


def undone(settings: Settings, event: Event) -> None:
    """The event, in a transaction that never was."""
    left, out = clients.producer(settings, **{"transactional.id": f"{settings.topic_prefix}.left"}), outgoing(settings, event)
    left.init_transactions(10)
    left.begin_transaction()
    left.produce(out.topic, out.value, out.key, headers=headers.pack(out.headers))
    left.flush(10)
    left.abort_transaction(10)


def test_committed_and_undone_transactions_leave_nothing_behind_and_nothing_unread(
    settings: Settings, tape: Tape, options: Options
) -> None:
    app, seen = App("g"), list[int]()

    @app.on("orders/create", order="key")
    async def handle(event: Event) -> None:
        seen.append(event.json()["n"])

    # One order, so one partition: a record, two of a transaction, a marker, one undone, a marker, a record, one more transaction.
    events = [make_event(n, order=7) for n in range(5)]
    writer = Writer.open(settings, "one")
    tape.record(events[:1])
    writer.write([outgoing(settings, event) for event in events[1:3]])
    undone(settings, make_event(99, order=7))
    tape.record(events[3:4])
    writer.write([outgoing(settings, events[4])])
    writer.close()
    settled(settings, [tape.names.log("orders.create")])

    run(app, settings, options)

    assert seen == [0, 1, 2, 3, 4]
    assert states(settings, "g", events) == {"succeeded": 5}
    log = tape.names.log("orders.create")
    with Reader(settings) as reader, Ledger.open(settings.ledger_url) as ledger, Cataloguer(settings, ledger) as cataloguer:
        ends = reader.ends([log])
        cataloguer.catch_up()
        assert cataloguer.lag() == 0
        assert sorted(ends.values()) == [0, 9]
        (committed,) = (offset for p, offset in groups.committed(settings, "g").items() if ends.get(p) == 9)
        assert committed == 8  # behind the last record; the marker after it is nobody's
        (group,) = figures.figures(settings, ledger, 0.0).groups
        assert group.lag["orders/create"] == Lag(0, 0.0)
        planned = reset.plan(settings, ledger, "g", Target(To.EARLIEST), ["orders/create"])
        assert planned.foresight.finished == 5

    run(app, settings, options)  # a restart begins where the first ended
    assert seen == [0, 1, 2, 3, 4]


def test_the_webhook_that_comes_after_its_synthetic_event_is_stale_and_so_is_the_other_way_round(
    settings: Settings, tape: Tape, options: Options
) -> None:
    app, seen = App("g"), list[int]()

    @app.on("orders/create", "orders/updated", skip_stale=True, order="key")
    async def handle(event: Event) -> None:
        seen.append(event.json()["n"])

    def update(number: int, order: int, version: int, source: str = "webhook") -> Event:
        return replace_source(make_event(number, topic="orders/updated", order=order, version=version), source)

    first = [update(1, 1, 10, RECONCILER), update(2, 1, 10), update(3, 1, 11), update(4, 2, 10), update(5, 2, 10, RECONCILER)]
    tape.record(first)
    run(app, settings, options)
    # And across a restart, by what the ledger knows.
    second = [update(6, 1, 12, RECONCILER)]
    tape.record(second)
    run(app, settings, options)
    third = [update(7, 1, 12), update(8, 1, 13)]
    tape.record(third)
    run(app, settings, options)

    assert sorted(seen) == [1, 3, 4, 6, 8]
    assert states(settings, "g", [*first, *second, *third]) == {"succeeded": 5, "stale": 3}


def replace_source(event: Event, source: str) -> Event:
    event.source = source
    return event


