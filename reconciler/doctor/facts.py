"""What a diagnosis is made from, and what comes of it. Values, no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from hooktape.reconciler.families import CHECKED, FAMILIES
from hooktape.schemas import topics as shopify
from hooktape.settings import Settings

OUTSIDE = "app"
"""`HOOKTAPE_SUBSCRIBED_BY`: the app's configuration file subscribes, which the Admin API doesn't list."""
_VERSIONS = {"updatedAt": "updated_at", "createdAt": "created_at", "discount.updatedAt": "updated_at", "lastEditDate": "lastEditDate"}


class Severity(StrEnum):
    """How bad it is, the worst first."""

    ERROR = "error"
    """Webhooks are lost now, or nobody can tell."""
    WARNING = "warning"
    """They will be, or come doubled, late or without what is needed."""
    NOTICE = "notice"
    """Worth knowing; nothing is wrong."""


class Problem(StrEnum):
    """What a finding is about: its name for reports and metrics. With its subject it's the same finding from look to look."""

    CLOSED = "closed"
    MISSING = "missing"
    ADDRESS = "address"
    FORMAT = "format"
    FIELDS = "fields"
    FILTER = "filter"
    METAFIELDS = "metafields"
    VERSION = "version"
    DUPLICATE = "duplicate"
    TWICE = "twice"
    UNKNOWN = "unknown"
    SCOPE = "scope"
    HISTORY = "history"
    PROTECTED = "protected"
    SUPPORT = "support"
    UNSET = "unset"
    UNREACHABLE = "unreachable"
    CERTIFICATE = "certificate"
    SILENT = "silent"
    DELIVERED_VERSION = "delivered_version"
    DELIVERED_FIELDS = "delivered_fields"
    REFUSED = "refused"
    UNHEARD = "unheard"


BY_TAPE = frozenset({Problem.SILENT, Problem.DELIVERED_VERSION, Problem.DELIVERED_FIELDS, Problem.REFUSED, Problem.UNHEARD})
"""Judged by what came."""
BY_ASKING = frozenset({Problem.UNSET, Problem.UNREACHABLE, Problem.CERTIFICATE})
"""Judged without the Admin API and the tape; all others by what the Admin API shows."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `subject`: the topic, or the scope, version or reason; `what` is wrong and what to do (`remedy`)."""

    problem: Problem
    subject: str
    severity: Severity
    what: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Declared:
    """How the app means to be subscribed. `address` "": not said."""

    topics: tuple[str, ...]
    by: str
    address: str
    version: str
    namespaces: tuple[str, ...] = ()
    suspect: float = 300.0
    """Seconds for which what looks missing is taken for merely late."""

    @classmethod
    def of(cls, settings: Settings) -> "Declared":
        """By the settings."""
        return cls(shopify.expand(settings.topics), settings.subscribed_by, settings.webhook_url, settings.admin_api_version,
                   settings.metafield_namespaces, settings.reconcile_suspect)  # fmt: skip

    @property
    def outside(self) -> bool:
        """Whether the subscriptions are made where the Admin API doesn't show them."""
        return self.by == OUTSIDE


@dataclass(frozen=True, slots=True)
class Subscription:
    """A subscription that the Admin API shows. `topic` as in `X-Shopify-Topic`."""

    gid: str
    topic: str
    uri: str
    format: str = "JSON"
    filter: str = ""
    fields: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    version: str = ""
    supported: bool = True
    made_us: int = 0
    """When it was made: of what changed earlier it can't have told."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the Admin API shows. `versions`: handle → whether Shopify supports it."""

    subscriptions: tuple[Subscription, ...]
    scopes: frozenset[str]
    versions: Mapping[str, bool]
    hidden: frozenset[str] = frozenset()
    """Kinds of protected data that are withheld: `name`, `address`, `email`, `phone`, `customer`."""
    barred: frozenset[str] = frozenset()
    """Families of which nothing is shown, since all of it is protected data."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The Admin API showed nothing: `reason` is AdminApiError's word, `why` its sentence."""

    reason: str
    why: str


@dataclass(frozen=True, slots=True)
class Heard:
    """A topic's newest webhook. `triggered_us`: when its change happened, by Shopify's clock. `lacks`: members of its body that
    are needed and absent. `recorded`: synthetic events of the topic since then, `recorded_us` when the first was recorded."""

    triggered_us: int = 0
    version: str = ""
    lacks: tuple[str, ...] = ()
    recorded: int = 0
    recorded_us: int = 0


@dataclass(frozen=True, slots=True)
class Outage:
    """From `since_us` until `until_us` an ingest process answered every webhook with 503: none in between was recorded by it."""

    since_us: int
    until_us: int

    @property
    def seconds(self) -> float:
        return (self.until_us - self.since_us) / 1e6


@dataclass(frozen=True, slots=True)
class Evidence:
    """What came, and what the reconciler misses. `missing`: topic → when each change happened that the API shows and the tape lacks
    (microseconds)."""

    heard: Mapping[str, Heard] = field(default_factory=dict)
    missing: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outages: tuple[Outage, ...] = ()


@dataclass(frozen=True, slots=True)
class Reached:
    """`why` the declared address doesn't lead to an ingestor, as asked from here; "": it does, or can't be asked. `expires`: when its
    certificate does (epoch seconds; None: it has none)."""

    why: str = ""
    expires: float | None = None


@dataclass(frozen=True, slots=True)
class Unheard:
    """The tape couldn't be read."""

    why: str


def needed(topic: str) -> tuple[str, ...]:
    """The members of the topic's body without which neither order nor reconciliation is possible; () where none is known."""
    family = FAMILIES.get(topic.partition("/")[0])
    if family is None or (topic not in CHECKED and topic != family.delete):
        return ()
    return (*family.ids, _VERSIONS[family.version]) if family.versioned and topic != family.delete else family.ids
