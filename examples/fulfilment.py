"""A handler to begin with: `HOOKTAPE_SHOPIFY_SECRETS=hush hooktape up examples.fulfilment:app`, then `hooktape send orders/create`.

It prints what it would do, and can't handle orders without an e-mail address, so that there is something to look at.
"""

from hooktape import App, Event, Reject

app = App(group="fulfilment")


@app.on("orders/create", "orders/updated", concurrency=16, order="key", skip_stale=True)
async def reserve_stock(event: Event) -> None:
    order = event.json()
    if not order.get("line_items"):
        raise Reject("an order without lines can't be fulfilled")
    print(f"{event.shop}: {order['name']} reserves {len(order['line_items'])} lines", flush=True)


@app.on("refunds/create", concurrency=4)
def put_back(event: Event) -> None:
    # A plain function runs in a thread: for libraries that know no asyncio.
    print(f"{event.shop}: refund {event.json()['id']} of {event.resource_root}", flush=True)
