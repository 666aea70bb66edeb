"""docs/runbooks/downstream-down.md: an API that handlers call was down."""

import time
from pathlib import Path

from tests.runbooks.stage import Stage, stage

APP = '''
from functools import partial
from pathlib import Path
from hooktape import App, Event
from hooktape.consumers import breaker

# The first probe after two seconds, for the half minute that a page's reader doesn't wait for.
breaker._Topic = partial(breaker._Topic, interval=2.0)

app = App(group="fulfilment")
here = Path(__file__).parent

class WarehouseDown(ConnectionError):
    pass

@app.on("orders/create", order="key", max_attempts=3)
async def reserve_stock(event: Event) -> None:
    order = event.json()
    if (here / "down").exists():
        raise WarehouseDown("warehouse.example answers 503")
    with (here / "handled").open("a") as file:
        file.write(f"{order['name']}\\n")
'''


def outage(world: Stage) -> None:
    world.order(1001)
    world.until(lambda: len(world.handled()) == 1, "the order before the outage")
    (world.folder / "down").touch()
    for number in range(1002, 1010):
        world.order(number)
    world.until(lambda: world.dead() == 8, "eight orders out of tries")


def flood(world: Stage) -> None:
    for number in range(1010, 1100):
        world.order(number, shop=f"shop-{number % 4}.myshopify.com")
    world.until(lambda: any(b.open for b in world.ledger.breakers.list(time.time(), "fulfilment")), "the breaker to open")


def back(world: Stage) -> None:
    (world.folder / "down").unlink()
    # Whoever was on its way when the warehouse came back may die yet.
    world.until(lambda: len(world.handled()) + world.dead() == 99, "what was held to be handled")
    world.until(lambda: not world.ledger.breakers.list(time.time(), "fulfilment"), "the breaker to be told as closed")


def test_an_outage_downstream_ends_with_everything_handled_once(kafka: str, prefix: str, tmp_path: Path) -> None:
    with stage(kafka, prefix, tmp_path, APP, "fulfilment", topics_=("orders/create",), retry_delays=(0.2, 0.5)) as world:
        world.play("downstream-down.md", {"the warehouse stops answering": outage, "more orders come in": flood,
                                          "the warehouse answers again": back})  # fmt: skip
        assert sorted(world.handled()) == sorted(f"#{number}" for number in range(1001, 1100))
