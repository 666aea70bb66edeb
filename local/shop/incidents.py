"""Everything that can go wrong at a shop while it runs, in one table: what it does, and the incident that it repeats.

`Incidents` is a shop's switchboard: any of them on or off at any time, several at once, their chances from one seed.
Numbers like `airbyte#85372` are issues of airbytehq/airbyte and so on, in full where the owner isn't the project's name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import MappingProxyType
from typing import Any
from zlib import crc32

from hooktape.errors import UsageError

Value = float | int | str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Incident:
    """One row of the table. `parameters` are their defaults; `where`: the part of the shop that it strikes."""

    name: str
    where: str
    does: str
    repeats: str
    parameters: Mapping[str, Value]


def _row(name: str, where: str, does: str, repeats: str, **parameters: Value) -> Incident:
    return Incident(name, where, does, repeats, MappingProxyType(parameters))


_ROWS = (
    _row("webhook_drop", "delivery", "a share of the webhooks of `topics` (none named: of all) is never sent",
         "lightward/mechanic-docs, reconciling-missing-events: Shopify misses webhooks, mostly at high volume", share=0.01, topics=()),
    _row("webhook_delay", "delivery", "a share is sent between `low` and `high` seconds late",
         "gnikyt/laravel-shopify#591: 30 s and more; Shopify's own pages say up to a day", share=1.0, low=0.0, high=14_400.0, topics=()),
    _row("webhook_double", "delivery", "a share is sent twice at the same instant",
         "nozzlegear/ShopifySharp#919: duplicates at the exact same moment", share=0.01, topics=()),
    _row("subscription_removed", "delivery", "no webhook of `topics` is sent, and the API doesn't list their subscriptions",
         "gnikyt/laravel-shopify#936, community.shopify.com/m-p/992973: subscriptions gone after failures, or by Shopify's mistake",
         topics=("orders/updated",)),
    _row("subscription_changed", "delivery", "the subscriptions of `topics` have another filter, fewer fields, another version or address",
         "orders/updated under a filter that somebody added: accepted, and nothing is delivered any more",
         topics=("orders/updated",), filter="", include_fields=(), api_version="", uri=""),
    _row("subscription_removed_after_failures", "delivery", "a webhook that failed for good takes its shop-scoped subscription along",
         "Shopify's own rule for subscriptions made by the API; gnikyt/laravel-shopify#936"),
    _row("search_lag", "lists", "lists, counts and searches show what the shop was `seconds` ago; `nodes` is current",
         "lightward/mechanic-tasks#66, ShopifySharp#854, estuary/connectors#2210: indexes lag, seconds to hours", seconds=30.0),
    _row("edits_while_paging", "lists", "after each page of a list, `edits` of its rows are changed, webhooks included",
         "estuary/connectors#3911: objects move while they are listed", edits=3),
    _row("sort_omission", "lists", "a list or bulk sorted by UPDATED_AT and filtered by updated_at lacks a share of its rows",
         "estuary/connectors e1b9230a6: such a bulk silently omits rows", share=0.02),
    _row("ids_missing", "lists", "lists and bulks of `types` lack a share of all rows; `nodes` shows them",
         "airbyte#58668: 392 of 8,000 orders came", share=0.05, types=()),
    _row("greater_is_at_least", "lists", "`>` in a search acts as `>=`", "PostHog/posthog#39687, airbyte#33827"),
    _row("whole_days", "lists", "time filters of `types` compare whole days of the shop's zone",
         "the documented filter of `customers`; unquoted times likewise, estuary/connectors#3250", types=("customer",)),
    _row("nested_truncated", "lists", "a connection inside an object ends after `limit` rows and says that it's whole",
         "airbyte#78512: nested lists cut at about 100", limit=100),
    _row("counts_off", "lists", "counts are off by a share", "the schema's own note: a count may lag behind writes", share=0.02),
    _row("node_null", "lists", "`nodes` answers null for a share of what is there, another share each time",
         "airbyte#42973: a null taken for a deletion", share=0.05),
    _row("events_lag", "lists", "`events` shows deletions `seconds` late", "ShopifySharp wiki, Events: seconds to minutes", seconds=120.0),
    _row("events_lost", "lists", "`events` never shows a share of the deletions",
         "destroy events of most types are unproven; kept a year", share=1.0),
    _row("bulk_late", "bulk", "a bulk operation runs `seconds` longer", "gatsbyjs/gatsby-source-shopify#116: stuck for hours",
         seconds=600.0),
    _row("bulk_empty", "bulk", "COMPLETED, objects counted, no rows: an empty file, or with `url` = none no file",
         "airbyte#85372: the cursor moved and all was lost", url="empty"),
    _row("bulk_shuffled", "bulk", "the lines come in no order, children before and far from their parents",
         "craftcms/shopify#224: child lines away from their parent; the default since 2026-01"),
    _row("bulk_partial", "bulk", "FAILED with INTERNAL_SERVER_ERROR; a share of the lines at `partialDataUrl`, `seconds` later",
         "airbyte#62499: the partial address came 100 s later", share=0.5, seconds=100.0),
    _row("bulk_fails", "bulk", "a share of the operations is FAILED with no code and no address",
         "craftcms/shopify#192: half of the bulks fail with null", share=0.5),
    _row("bulk_truncated", "bulk", "children end after `limit` a parent, counted as if they were all",
         "airbyte#78512 in a bulk", limit=100),
    _row("bulk_finish_lost", "bulk", "bulk_operations/finish is never sent", "gatsbyjs/gatsby-source-shopify#140"),
    _row("throttled", "api", "a share of the requests is THROTTLED whatever the bucket holds",
         "MONEI/Shopify-api-node#199: another process of the app spends the points", share=0.2),
    _row("points_drained", "api", "somebody else takes `points` a second out of the bucket",
         "MONEI/Shopify-api-node#199: a limiter per process", points=50.0),
    _row("cost_zero", "api", "answers say that they cost nothing, and take what they cost",
         "microsoft/BCApps#10417: no pacing on cost 0"),
    _row("server_errors", "api", "a share of the requests gets `status`", "airbyte#62499: INTERNAL_SERVER_ERROR, the slice skipped",
         share=0.2, status=502),
    _row("version_falls_forward", "api", "requests are served by `version`, with status 200: only the header tells",
         "Shopify's versioning: an unsupported version is answered by the oldest supported one", version="2026-07"),
    _row("scopes_lost", "api", "`scopes` are no longer granted; without read_all_orders nothing older than 60 days is shown",
         "airbyte#58668, airbyte#21173: 60 days and 392 of 8,000 orders", scopes=("read_all_orders",)),
    _row("personal_data_hidden", "api", "`fields` of customers (name, address, email, phone) are null, and `errors` says where; `all`: "
         "whole orders, draft orders and customers",
         "MONEI/Shopify-api-node#672, shopify.dev/docs/apps/launch/protected-customer-data: an app that isn't approved for them",
         fields=("name", "address", "email", "phone")),
    _row("token_short", "api", "a token that is granted lasts `seconds`", "Shopify's own rule since 2026-04: public apps' last an hour",
         seconds=3600.0),
    _row("permanent_token_refused", "api", "the token that never expires is answered with 403",
         "chatwoot/chatwoot#14462: new public apps since 2026-04, all of them from 2027 on"),
    _row("grant_refused", "api", "no token is granted: 400 with `error`",
         "shopify.dev, get-api-access-tokens: shop_not_permitted, for a shop outside of the app's organisation",
         error="shop_not_permitted"),
    _row("token_revoked", "api", "401", "uninstalled: the token is refused at once"),
    _row("unpaid", "api", "402", "orbit-apps/elixir-shopifyapi#380: the shop doesn't pay; frozen, it can still send webhooks"),
    _row("forbidden", "api", "403", "ShopifySharp#713: the shop is fraudulent, or the app is barred"),
    _row("locked", "api", "423", "community.shopify.com/t/823398: the shop is locked"),
    _row("shop_inactive", "api", "200 with the error SHOP_INACTIVE", "orbit-apps/elixir-shopifyapi#380"),
)  # fmt: skip
TABLE: Mapping[str, Incident] = MappingProxyType({row.name: row for row in _ROWS})
"""Every incident by its name."""
STATUS = {"token_revoked": 401, "unpaid": 402, "forbidden": 403, "locked": 423}


class Incidents:
    """What is going wrong now. One seed, one sequence of chances for each incident, whatever else is switched on."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._on: dict[str, dict[str, Any]] = {}
        self._chances: dict[str, Random] = {}

    def start(self, name: str, **parameters: Value) -> None:
        """Switches an incident on, or changes it. Raises UsageError for one, or a parameter, that isn't in the table."""
        row = TABLE.get(name)
        if row is None:
            raise UsageError(f"{name!r} is no incident; these are: {', '.join(TABLE)}.")
        if wrong := sorted(parameters.keys() - row.parameters.keys()):
            raise UsageError(f"{name} has no {', '.join(wrong)}; it has: {', '.join(row.parameters) or 'nothing to set'}.")
        for key, value in parameters.items():
            if not _fits(value, row.parameters[key]):
                raise UsageError(f"{name}: {key} can't be {value!r}; by default it is {row.parameters[key]!r}.")
        self._on[name] = {**row.parameters, **{key: tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
                                               for key, value in parameters.items()}}  # fmt: skip

    def stop(self, name: str | None = None) -> None:
        """Switches one off; None: all of them. What is off already stays off."""
        for one in [name] if name else list(self._on):
            self._on.pop(one, None)

    def on(self, name: str) -> dict[str, Any] | None:
        """The parameters of an incident that is on; None: it is off."""
        return self._on.get(name)

    def is_on(self, name: str) -> bool:
        """Whether an incident is on."""
        return name in self._on

    def active(self) -> dict[str, dict[str, Any]]:
        """All that are on."""
        return dict(self._on)

    def rng(self, name: str) -> Random:
        """The incident's own generator."""
        return self._chances.setdefault(name, Random(f"{self._seed}/{name}"))

    def strikes(self, name: str) -> bool:
        """Whether it strikes this time, by its `share`; False when it's off."""
        on = self._on.get(name)
        return on is not None and self.rng(name).random() < on["share"]

    def chosen(self, name: str, thing: str) -> bool:
        """Whether it strikes this very thing, by its `share`: the same answer each time."""
        on = self._on.get(name)
        return on is not None and crc32(f"{self._seed}/{name}/{thing}".encode()) < on["share"] * 2**32


def _fits(value: object, default: Value) -> bool:
    if isinstance(default, tuple):
        return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)
    if isinstance(default, str):
        return isinstance(value, str)
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
