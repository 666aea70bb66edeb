"""docs/runbooks/bug-fixed.md: a bug was deployed, and is fixed."""

from pathlib import Path

from tests.runbooks.stage import Stage, stage

APP = '''
from pathlib import Path
from hooktape import App, Event

app = App(group="fulfilment")
here = Path(__file__).parent

def reserve(order, event):
    if (here / "bug").exists():
        order["discount_codes"][0]  # what was deployed
    with (here / "handled").open("a") as file:
        file.write(f"{event.topic} {order['name']} {'replayed' if event.replay else 'live'}\\n")

@app.on("orders/create", "orders/updated", order="key", max_attempts=2)
async def reserve_stock(event: Event) -> None:
    reserve(event.json(), event)
'''


def deploy_the_bug(world: Stage) -> None:
    world.order(1001, discount_codes=[])
    world.until(lambda: len(world.handled()) == 1, "the order before the bug")
    (world.folder / "bug").touch()
    for number in range(1002, 1022):
        if number in (1005, 1017, 1019, 1021):
            # The page shows who died first, by its place among the dead letters, and who died last: none of it is left to a race.
            world.until(lambda dead=(number - 1003) // 2: world.dead() == dead, "the orders before to be dead")
        # Every second order has a discount, and meets no bug.
        world.order(number, **({} if number % 2 else {"discount_codes": ["TEN"]}))
    world.until(lambda: world.dead() == 10, "ten dead orders")
    world.caught_up()  # the page says that nothing is behind


def fix_it(world: Stage) -> None:
    (world.folder / "bug").unlink()
    # A merchant edits one of the dead orders before the operator comes.
    world.order(1003, "orders/updated")
    world.until(lambda: len(world.handled()) == 12, "the edited order")
    world.caught_up()


def test_what_a_bug_killed_is_replayed_after_the_fix_one_first_and_then_the_rest(kafka: str, prefix: str, tmp_path: Path) -> None:
    with stage(kafka, prefix, tmp_path, APP, "fulfilment", topics_=("orders/create", "orders/updated"), retry_delays=(0.2,)) as world:
        world.play("bug-fixed.md", {"a bug is deployed": deploy_the_bug, "the fix is deployed": fix_it})
        lines = world.handled()
        assert len(lines) == len(set(lines))
        created = [line.split()[1] for line in lines if line.startswith("orders/create")]
        assert sorted(created) == [f"#{number}" for number in range(1001, 1022)]
        assert world.dead() == 0
