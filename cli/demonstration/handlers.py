"""The demo's app: keeps a warehouse up to date with a shop. One handler has a bug until `DEMO_FIXED=1`, as after a deploy."""

import os

import httpx

from hooktape import App, Event

app = App(group="warehouse")
warehouse = httpx.AsyncClient(base_url=os.environ.get("DEMO_WAREHOUSE", "http://127.0.0.1:1"), timeout=5, trust_env=False)

# Where each type of product lies. The bug: somebody forgot the knives.
SHELVES = {"Blanket": "A1", "Bottle": "A2", "Coat": "B1", "Kettle": "B2", "Notebook": "C1", "<warm>": "C2"}
if os.environ.get("DEMO_FIXED") == "1":
    SHELVES["Knife"] = "D1"


@app.on("orders/*", concurrency=16, order="key", skip_stale=True)
async def reserve_stock(event: Event) -> None:
    order = event.json()
    await tell_warehouse(event, {"total": order["total_price"], "lines": len(order["line_items"])})


@app.on("products/*", concurrency=16, order="key", skip_stale=True, max_attempts=2)
async def label_shelf(event: Event) -> None:
    product = event.json()
    await tell_warehouse(event, {"shelf": SHELVES[product["product_type"]], "title": product["title"]})


@app.on("customers/*", concurrency=16, order="key", skip_stale=True)
async def print_address(event: Event) -> None:
    customer = event.json()
    await tell_warehouse(event, {"name": f"{customer['first_name']} {customer['last_name']}"})


async def tell_warehouse(event: Event, what: dict[str, object]) -> None:
    sent = {"webhook_id": event.webhook_id, "resource": event.resource, "version": event.version_us, "source": event.source, **what}
    # A 503 with Retry-After raises here; the worker knows what that means.
    (await warehouse.post("/effects", json=sent)).raise_for_status()
