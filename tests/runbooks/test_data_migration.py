"""docs/runbooks/data-migration.md: a topic is replayed over a date range, for a column that is new."""

from pathlib import Path

from tests.runbooks.stage import Stage, stage

APP = '''
from pathlib import Path
from hooktape import App, Event

app = App(group="catalogue")
here = Path(__file__).parent

@app.on("products/create", "products/update", order="key")
async def index(event: Event) -> None:
    product = event.json()
    if not event.replay:
        with (here / "announced").open("a") as file:  # tells followers: not again in a replay
            file.write(f"{product['id']}\\n")
    if (here / "migrated").exists():
        with (here / "indexed").open("a") as file:
            file.write(f"{product['id']} {product['weight']}\\n")

@app.on("orders/create")
async def count(event: Event) -> None:
    pass
'''
WEEK = [f"2026-11-{day:02}T12:00:00.000000000Z" for day in range(1, 15)]


def two_weeks(world: Stage) -> None:
    for number, moment in enumerate(WEEK):
        body = {"id": 7_000_000 + number, "title": f"Knife {number}", "weight": number, "updated_at": moment[:19] + "Z"}
        world.send("products/update", body, triggered=moment)
        world.order(1000 + number, triggered=moment[:19] + "Z")
    world.until(lambda: len(world.handled("announced")) == len(WEEK), "two weeks of products")
    world.caught_up()  # no handler is on its way to the new column any more


def migrate(world: Stage) -> None:
    (world.folder / "migrated").touch()


def test_a_week_of_one_topic_is_handled_again_and_nobody_is_told_twice(kafka: str, prefix: str, tmp_path: Path) -> None:
    with stage(kafka, prefix, tmp_path, APP, "catalogue", topics_=("products/create", "products/update", "orders/create")) as world:
        world.play("data-migration.md", {"two weeks pass": two_weeks, "the new column is deployed": migrate})
        assert sorted(world.handled("indexed")) == sorted(f"{7_000_000 + n} {n}" for n in range(2, 9))
        assert len(world.handled("announced")) == len(WEEK)
