"""docs/runbooks/new-integration.md: a new group begins with what is on the tape."""

from pathlib import Path

from tests.runbooks.stage import Stage, stage

APP = '''
from pathlib import Path
from hooktape import App, Event

app = App(group="fulfilment")
billing = App(group="billing")
here = Path(__file__).parent

@app.on("orders/create")
async def reserve_stock(event: Event) -> None:
    pass

@billing.on("orders/create", order="key")
async def invoice(event: Event) -> None:
    with (here / "invoiced").open("a") as file:
        file.write(f"{event.json()['name']} {'replayed' if event.replay else 'live'}\\n")
'''


def a_month_of_orders(world: Stage) -> None:
    for number in range(1001, 1041):
        world.order(number)


def billing_begins(world: Stage) -> None:
    world.start("worker of billing", "consume", "shopapp:billing", "--from", "now")
    from hooktape.tape import groups

    world.until(lambda: groups.describe(world.settings, "billing").live, "billing's worker")
    # On each partition, since nobody knows on which the next order will lie.
    world.until(lambda: len(groups.committed(world.settings, "billing", _log(world))) == world.settings.partitions, "billing's beginning")
    world.order(1041)
    world.until(lambda: "#1041 live" in world.handled("invoiced"), "the first live order of billing")
    world.caught_up()  # the plan counts it as done


def _log(world: Stage) -> list[tuple[str, int]]:
    from hooktape.tape.names import Names

    return [(Names(world.settings.topic_prefix).log("orders.create"), partition) for partition in range(world.settings.partitions)]


def test_a_new_integration_gets_the_past_at_a_rate_and_the_present_at_once(kafka: str, prefix: str, tmp_path: Path) -> None:
    with stage(kafka, prefix, tmp_path, APP, "fulfilment", topics_=("orders/create",)) as world:
        world.play("new-integration.md", {"orders come in for a month": a_month_of_orders, "billing is deployed": billing_begins})
        past = [f"#{number} replayed" for number in range(1001, 1041)]
        assert sorted(world.handled("invoiced")) == sorted([*past, "#1041 live"])
