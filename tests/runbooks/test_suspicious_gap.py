"""docs/runbooks/suspicious-gap.md: a merchant misses an order; the gap behind it is found and replayed selectively."""

from pathlib import Path

from tests.runbooks.stage import Stage, stage

APP = '''
from pathlib import Path
from hooktape import App, Event

app = App(group="fulfilment")
here = Path(__file__).parent

@app.on("orders/create", order="key")
async def reserve_stock(event: Event) -> None:
    with (here / "handled").open("a") as file:
        file.write(f"{event.json()['name']}\\n")
'''


def skipped(world: Stage) -> None:
    for number in range(1001, 1004):
        world.order(number)
    world.until(lambda: len(world.handled()) == 3, "the orders before")
    world.stop("worker of fulfilment")
    for number in range(1004, 1016):
        world.order(number, shop="acme.myshopify.com" if number % 2 else "globex.myshopify.com")
    # Somebody in a hurry: "the backlog is old, skip it".
    _, code = world._type('hooktape reset --group fulfilment --topic orders/create --to-latest --execute --yes --reason "skip the backlog"')
    assert code == 0
    world.work()
    world.order(1016)
    world.until(lambda: "#1016" in world.handled(), "the orders after")
    world.caught_up()  # else the last one hasn't been seen either


def test_a_gap_is_found_from_one_order_and_exactly_what_matters_of_it_is_replayed(kafka: str, prefix: str, tmp_path: Path) -> None:
    with stage(kafka, prefix, tmp_path, APP, "fulfilment", topics_=("orders/create",)) as world:
        world.play("suspicious-gap.md", {"somebody skips a backlog": skipped})
        wanted = [1001, 1002, 1003, *range(1005, 1016, 2), 1016]
        assert sorted(world.handled()) == sorted(f"#{number}" for number in wanted)
