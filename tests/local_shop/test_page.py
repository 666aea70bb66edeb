"""docs/local-shop.md lists the incidents that the code holds. `python tests/local_shop/test_page.py` writes it anew."""

from pathlib import Path

from hooktape.local.shop.incidents import TABLE

PAGE = Path(__file__).parents[2] / "docs" / "local-shop.md"
HEAD = """\
# The local shop

A Shopify shop on this machine, for `hooktape demo`, tests and benchmarks: it changes, sends signed webhooks, and answers the Admin API
(the part of its schema in `local/shop/*.graphql`). It holds no real data and listens on loopback only. One seed gives one shop, one
sequence of changes and one list of fates.

```python
from hooktape.local.shop.model import WHOLE
from hooktape.local.shop.server import LocalShop

async with LocalShop(seed=7, mix=WHOLE, target="http://127.0.0.1:8000/webhooks") as shop:
    shop.incidents.start("webhook_drop", share=0.02)
    await shop.run(1000, rate=100)
    await shop.settle()
    shop.missing()          # resource → its last change: exactly what a reconciler has to find
```

- **What it holds**: orders with refunds, fulfilments, transactions, returns and fulfilment orders; products with variants; collections,
  customers and their segments, subscription contracts, draft orders, inventory items and levels, locations, discounts, companies with
  their locations, themes. `Mix` says how often each act happens; the usual one has orders, products and customers only, `DELETING`
  deletes some of them, `WHOLE` does everything.
- **A shop of any size**: `shop.shop.stock(1_000_000, start, end)` adds orders that are only a seed, 8 bytes each, until they're touched.
- **Time** is `clock`, any function of seconds: tests turn their own.
- **Truth**: `shop.truth` has every webhook with its fate and outcome; `shop.missing()` what no delivered webhook showed, and
  `shop.missing(exact=True)` also second changes within one second. `shop.silent()` has what moved without any webhook, since Shopify has
  no topic for it, as when a fulfilment closes its fulfilment order, or a theme's files are edited.
- **Subscriptions** are the app's file by default, for every topic, which the API doesn't list; `subscribed=[…]` makes them by the API.
- **Bulk operations** write their lines to disk and are served at their `url`.

## What can go wrong

Each incident is switched while the shop runs, alone or with others: `shop.incidents.start(NAME, …)` and `stop(NAME)`, or from another
process:

```
curl -X PUT    $SHOP/control/incidents/search_lag -d '{"seconds": 600}'
curl -X DELETE $SHOP/control/incidents/search_lag
curl           $SHOP/control/incidents                       # what is on, and all that there are
curl -X POST   $SHOP/control/changes -d '{"count": 50}'
curl           $SHOP/control/missing
```

A webhook's planned fate (`Faults`: dropped, doubled, late, out of order) comes before the incidents of its delivery. Deletions of each kind
are acts of the shop (`Mix.order_delete` and so on); whether `events` tells of them is an incident.

| incident | where | what it does | parameters | what it repeats |
| --- | --- | --- | --- | --- |
"""


def page() -> str:
    return HEAD + "".join(
        f"| `{row.name}` | {row.where} | {row.does} | {_shown(row.parameters)} | {row.repeats} |\n" for row in TABLE.values()
    )


def _shown(parameters: object) -> str:
    assert hasattr(parameters, "items")
    return ", ".join(f"`{name}` {_value(value)}" for name, value in parameters.items()) or "–"


def _value(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value) or "none"


def test_the_page_lists_the_incidents_of_the_code() -> None:
    assert PAGE.read_text() == page(), "run python tests/local_shop/test_page.py"


if __name__ == "__main__":
    PAGE.write_text(page())
