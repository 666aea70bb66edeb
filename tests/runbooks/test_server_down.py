"""docs/runbooks/server-down.md: the ingestor and the workers were down for two hours."""

import time
from pathlib import Path

from hooktape.local.shop.cost import Plan
from tests.runbooks.stage import SHOP, ShopThread, Stage, stage

APP = '''
from pathlib import Path
from hooktape import App, Event

app = App(group="warehouse")
here = Path(__file__).parent

@app.on("orders/*", "products/*", "customers/*", order="key", skip_stale=True)
async def mirror(event: Event) -> None:
    with (here / "handled").open("a") as file:
        file.write(f"{event.resource} {event.version_us}\\n")
'''


def test_after_two_hours_without_a_server_the_newest_state_of_everything_has_been_handled(kafka: str, prefix: str, tmp_path: Path) -> None:
    topics = ("orders/*", "products/*", "customers/*")
    with stage(kafka, prefix, tmp_path, APP, "warehouse", topics_=topics, HOOKTAPE_RECONCILE_LAG="0s", HOOKTAPE_RECONCILE_GRACE="1s",
               HOOKTAPE_RECONCILE_OVERLAP="2m") as world:  # fmt: skip
        # Shopify retries for four hours; here for two seconds.
        shop = ShopThread(world.url, seed=11, retry_span=2.0, plan=Plan("wide", 1_000_000.0, 1_000_000.0))  # no pass waits for points
        world.env |= {"HOOKTAPE_SHOP_TOKENS": f"{SHOP}={shop.shop.token}", "HOOKTAPE_ADMIN_URL": shop.shop.admin_url}

        def ordinary_day(world: Stage) -> None:
            # The tape's first whole second is where the reconciler begins: what the page counts has happened after it.
            shop.change(1)
            begun = time.time()
            world.until(lambda: time.time() > begun + 2, "a second of its own")
            shop.change(39)
            world.until(lambda: len(world.handled()) >= 30, "an ordinary day's webhooks")

        def outage(world: Stage) -> None:
            world.stop("ingest", "worker of warehouse")
            shop.change(60)

        def back(world: Stage) -> None:
            world.ingest()
            world.work()
            shop.change(10)
            world.caught_up()

        def recorded(world: Stage) -> None:
            missing = {(name, change.version) for name, change in shop.shop.truth.missing().items()}
            wanted = {f"{name} {version}" for name, version in missing}
            world.until(lambda: wanted <= set(world.handled()), "what was recorded to be handled")
            world.caught_up()

        try:
            world.play("server-down.md", {"an ordinary day": ordinary_day, "the server is down": outage, "the server is back": back,
                                          "the workers handle what was recorded": recorded})  # fmt: skip
            newest: dict[str, str] = {}
            for line in world.handled():
                newest[line.split()[0]] = max(newest.get(line.split()[0], ""), line.split()[1])
            lost = {name: change.version for name, change in shop.shop.truth.missing().items() if newest.get(name) != str(change.version)}
            assert not lost
        finally:
            shop.close()
