"""`Doctor`: asks the Admin API and the tape, diagnoses, keeps the findings in the ledger, and makes what is missing where it may."""

import asyncio
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from hooktape import log, metrics
from hooktape.errors import AdminApiError, NothingMatched, TapeError
from hooktape.ledger.doctor import Found
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler import api, protected, queries
from hooktape.reconciler.access.access import Access
from hooktape.reconciler.client import AdminClient
from hooktape.reconciler.doctor import diagnosis
from hooktape.reconciler.doctor.facts import (
    Closed,
    Declared,
    Evidence,
    Finding,
    Heard,
    Outage,
    Reached,
    Seen,
    Severity,
    Subscription,
    Unheard,
)
from hooktape.reconciler.doctor.hearing import Listener
from hooktape.reconciler.doctor.reaching import reach
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.family import Family
from hooktape.reconciler.pacing import Pace
from hooktape.schemas import topics as shopify
from hooktape.settings import Settings

_log = log.get("hooktape.reconciler")
WHO = "doctor"
# A page of 100 subscriptions with their versions: 2 + 100 × (1 + 1). A dozen versions. A mutation.
_PAGE_POINTS, _VERSIONS_POINTS, _MUTATION_POINTS = 202, 30, 10
# Five resources with three objects in each.
_WITHHELD_POINTS = 25
# A look at a shop that doesn't answer takes half a minute.
_LEASE_TTL = 120.0
_LEASE_POLL = 0.25
# A round over hundreds of shops takes about that long.
_REACHED_SECONDS = 60.0
T = TypeVar("T")
Reach = Callable[[str, httpx.AsyncClient], Awaitable[Reached]]
LookBack = Callable[[str, Sequence[Family], int | None], Awaitable[None]]
"""(shop, families, microseconds since when; None: as far as a look-back goes)."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a look at a shop found: all that stands, each since when; the topics whose subscription it made."""

    shop: str
    findings: tuple[Found, ...]
    made: tuple[str, ...] = ()

    @property
    def ill(self) -> bool:
        """Whether webhooks are lost, or nobody can tell."""
        return any(one.severity == Severity.ERROR for one in self.findings)


class Doctor:
    """Looks at the subscriptions of shops: `async with Doctor(settings, ledger) as d: look = await d.look(shop)`.

    `repair`: makes subscriptions that are declared and missing (None: as HOOKTAPE_DOCTOR_REPAIR says), and has `look_back` compare
    what changed since the topic's last webhook. `clock` gives epoch seconds. `access`: the reconciler's, in one process with it. The
    ledger, and `http` where given, stay the caller's. Raises SettingsError where it isn't said which shops there are.
    """

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        clock: Callable[[], float] = time.time,
        http: httpx.AsyncClient | None = None,
        look_back: LookBack | None = None,
        repair: bool | None = None,
        reach: Reach = reach,
        access: Access | None = None,
    ) -> None:
        self._settings, self._ledger, self._clock = settings, ledger, clock
        self._http, self._owns_http = http or httpx.AsyncClient(), http is None
        self._access = access or Access(settings, self._http, clock=clock)
        self._look_back = look_back
        self._repairs = settings.doctor_repair == "on" if repair is None else repair
        self._declared = Declared.of(settings)
        self._reach = reach
        self._reached_at: tuple[float, Reached] | None = None
        self._listener = Listener(settings, ledger)
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await asyncio.to_thread(self._listener.close)
        if self._owns_http:
            await self._http.aclose()

    async def look(self, shop: str, *, wait: bool = False, due: Callable[[], bool] = lambda: True) -> Look | None:
        """Looks at one shop; None when another doctor does, or when it isn't `due` any more.

        `wait`: by hand: waits for the other, and asks a shop although its API was closed a moment ago. Raises LedgerUnavailable; what the
        Admin API or Kafka refuse is a finding.
        """
        name = f"doctor/{shop}"
        if not await self._acquire(name, wait):
            return None
        try:
            return await self._look(shop, wait) if await self._ask(due) else None
        finally:
            await self._ask(lambda: self._ledger.leases.release(name, self._owner))

    async def _look(self, shop: str, by_hand: bool) -> Look:
        seen, evidence = await self._see(shop, by_hand), await self._hear(shop)
        reached = await self._reached()
        findings = diagnosis.diagnose(self._declared, seen, evidence, reached, self._clock())
        made: list[str] = []
        if self._repairs and (wanted := diagnosis.creatable(self._declared, findings)):
            made = await self._subscribe(shop, wanted)
            if made:
                seen = await self._see(shop, by_hand)
                findings = diagnosis.diagnose(self._declared, seen, evidence, reached, self._clock())
        standing = await self._ask(lambda: self._keep(shop, findings, diagnosis.unjudged(seen, evidence)))
        if made and self._look_back is not None:
            await self._compare_again(shop, made, evidence)
        await self._ask(self.measure)
        return Look(shop, tuple(standing), tuple(made))

    # ── what the API shows, and what came ───────────────────────────────────────────────────────────────────────────
    async def _see(self, shop: str, by_hand: bool) -> Seen | Closed:
        parked = (await self._ask(self._ledger.timetable.parked)).get(shop)
        if parked is not None and parked.probe_at > self._clock() and not by_hand:
            return Closed(parked.reason, f"{shop}'s Admin API is closed to the app: {parked.reason}")
        try:
            client = AdminClient(self._settings, shop, self._http, self._access, pace=Pace(self._ledger.budgets, shop))
            scopes = (await api.gate(client)).scopes
            versions = (await client.ask(queries.VERSIONS, {}, _VERSIONS_POINTS)).data["publicApiVersions"]
            hidden, barred = await self._withheld(client, scopes)
            return Seen(await _subscriptions(client), scopes, {str(one["handle"]): bool(one["supported"]) for one in versions},
                        hidden, barred)  # fmt: skip
        except AdminApiError as error:
            return Closed(error.reason, str(error))

    async def _reached(self) -> Reached:
        """Of the address, which is the same for all shops: an ingestor that doesn't answer isn't waited for once for each."""
        now = self._clock()
        if self._reached_at is None or not 0 <= now - self._reached_at[0] < _REACHED_SECONDS:
            self._reached_at = now, await self._reach(self._declared.address, self._http)
        return self._reached_at[1]

    async def _withheld(self, client: AdminClient, scopes: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Kinds of protected data that are withheld in what is declared, and families that are as a whole."""
        hidden, barred = frozenset[str](), frozenset[str]()
        for name, query in queries.WITHHELD.items():
            if not FAMILIES[name].readable(scopes) or not any(topic.startswith(f"{name}/") for topic in self._declared.topics):
                continue
            try:
                hidden |= (await client.ask(query, {}, _WITHHELD_POINTS)).hidden
            except AdminApiError as error:
                if error.reason != protected.REASON:
                    raise
                barred |= {name}
        return hidden, barred

    async def _hear(self, shop: str) -> Evidence | Unheard:
        try:
            await self._ask(lambda: self._listener.catch_up(self._clock()))
        except (TapeError, NothingMatched) as error:
            return Unheard(str(error))
        return await self._ask(lambda: self._evidence(shop))

    def _evidence(self, shop: str) -> Evidence:
        heard = {one.topic: Heard(one.triggered_at, one.version, one.lacks, one.recorded, one.recorded_at)
                 for one in self._ledger.doctor.heard(shop)}  # fmt: skip
        missing: dict[str, list[int]] = {}
        for row in self._ledger.reconcile.pending(shop):
            family = FAMILIES.get(row.family)
            timed = row.version is not None and family is not None and family.versioned
            at = row.version if timed and row.version is not None else round(row.first_seen * 1e6)
            for topic, when in ((row.topic, at), *row.steps):
                if topic:
                    missing.setdefault(topic, []).append(when)
        outages = tuple(Outage(*one) for one in self._ledger.doctor.tape().outages)
        return Evidence(heard, {topic: tuple(times) for topic, times in missing.items()}, outages)

    # ── repair ──────────────────────────────────────────────────────────────────────────────────────────────────────
    async def _subscribe(self, shop: str, topics: Sequence[str]) -> list[str]:
        """Makes the subscriptions; those that Shopify took."""
        made = []
        client = AdminClient(self._settings, shop, self._http, self._access, pace=Pace(self._ledger.budgets, shop))
        given: dict[str, Any] = {"uri": self._declared.address, "format": "JSON"}
        if self._declared.namespaces:
            given["metafieldNamespaces"] = list(self._declared.namespaces)
        for topic in topics:
            try:
                answer = await client.ask(queries.SUBSCRIBE, {"topic": shopify.table()[topic].enum, "given": given}, _MUTATION_POINTS)
            except AdminApiError as error:
                _log.warning("a subscription couldn't be made", shop=shop, topic=topic, reason=error.reason, error=str(error))
                continue
            result = answer.data["webhookSubscriptionCreate"]
            if result["userErrors"]:
                _log.warning("Shopify refused a subscription", shop=shop, topic=topic, why=str(result["userErrors"][0]["message"])[:200])
                continue
            made.append(topic)
            gid = str(result["webhookSubscription"]["id"])
            _log.info("a missing subscription was made", shop=shop, topic=topic, subscription=gid)
            detail = {"topic": topic, "subscription": gid}
            await asyncio.to_thread(self._ledger.audit.append, self._clock(), WHO, "doctor.subscribe", shop,
                                    "declared, and the Admin API didn't show it", detail)  # fmt: skip
        return made

    async def _compare_again(self, shop: str, topics: Sequence[str], evidence: Evidence | Unheard) -> None:
        """Has the reconciler look at what changed since the last webhook of the topics that were missing."""
        assert self._look_back is not None
        families = {family.name: family for topic in topics if (family := FAMILIES.get(topic.partition("/")[0]))}
        heard = {} if isinstance(evidence, Unheard) else evidence.heard
        last = [heard[topic].triggered_us if topic in heard else 0 for topic in topics if topic.partition("/")[0] in families]
        if families:
            await self._look_back(shop, tuple(families.values()), min(last) or None)

    # ── the ledger ──────────────────────────────────────────────────────────────────────────────────────────────────
    def _keep(self, shop: str, findings: Sequence[Finding], unjudged: frozenset[Any]) -> list[Found]:
        rows = [Found(shop, str(one.problem), one.subject, str(one.severity), one.what, one.remedy) for one in findings]
        known = {(one.problem, one.subject, one.severity) for one in self._ledger.doctor.findings(shop)}
        standing, over = self._ledger.doctor.find(shop, rows, self._clock(), [str(problem) for problem in unjudged])
        for one in standing:
            if (one.problem, one.subject, one.severity) not in known and one.severity != Severity.NOTICE:
                _log.warning("the doctor found", shop=shop, problem=one.problem, subject=one.subject, severity=one.severity, what=one.what)
        for one in over:
            _log.info("what the doctor had found is over", shop=shop, problem=one.problem, subject=one.subject)
        worst = list(Severity)
        return sorted(standing, key=lambda one: (worst.index(Severity(one.severity)), one.problem, one.subject))

    def measure(self) -> None:
        """Sets the gauges from the ledger, of all shops."""
        metrics.DOCTOR_FINDING.clear()
        # What was found at a shop that is none of ours any more concerns nobody.
        shops = self._access.known
        for one in self._ledger.doctor.findings():
            if not shops or one.shop in shops:
                metrics.DOCTOR_FINDING.labels(one.shop, one.problem, one.subject, one.severity).set(1)
        for shop, moment in self._ledger.doctor.looked().items():
            if not shops or shop in shops:
                metrics.DOCTOR_LOOKED.labels(shop).set(moment)

    async def _acquire(self, name: str, wait: bool) -> bool:
        deadline = time.monotonic() + _LEASE_TTL + _LEASE_POLL
        while await self._ask(lambda: self._ledger.leases.acquire(name, self._owner, self._clock(), _LEASE_TTL)) is None:
            if not wait or time.monotonic() > deadline:
                return False
            await asyncio.sleep(_LEASE_POLL)
        return True

    async def _ask(self, question: Callable[[], T]) -> T:
        """The ledger and Kafka answer from a thread: a lock there must not stop the loop."""
        return await asyncio.to_thread(question)


async def _subscriptions(client: AdminClient) -> tuple[Subscription, ...]:
    """All that the API shows, page by page."""
    by_enum = {row.enum: row.topic for row in shopify.table().values() if row.enum}
    found: list[Subscription] = []
    after: str | None = None
    while True:
        page = (await client.ask(queries.SUBSCRIPTIONS, {"after": after}, _PAGE_POINTS)).data["webhookSubscriptions"]
        for node in page["nodes"]:
            # A topic that Shopify has invented since isn't declared either.
            topic, version = by_enum.get(str(node["topic"]), str(node["topic"]).lower()), node["apiVersion"]
            found.append(Subscription(
                str(node["id"]), topic, str(node["uri"]), str(node["format"]), str(node["filter"] or ""),
                tuple(node["includeFields"] or ()), tuple(node["metafieldNamespaces"] or ()), str(version["handle"]),
                bool(version["supported"])))  # fmt: skip
        if not page["pageInfo"]["hasNextPage"]:
            return tuple(found)
        after = page["pageInfo"]["endCursor"]
