"""From facts to findings. Pure: `now` in epoch seconds.

An empty list of subscriptions proves nothing: those of the app's configuration file, and those made in the shop's admin, aren't in it.
What the API doesn't show is judged by what comes, and by what the reconciler misses.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from urllib.parse import urlsplit

from hooktape.reconciler.doctor.facts import (
    BY_ASKING,
    BY_TAPE,
    Closed,
    Declared,
    Evidence,
    Finding,
    Heard,
    Outage,
    Problem,
    Reached,
    Seen,
    Severity,
    Subscription,
    Unheard,
    needed,
)
from hooktape.reconciler.family import may_read
from hooktape.schemas import topics as shopify
from hooktape.times import iso

ERROR, WARNING, NOTICE = Severity.ERROR, Severity.WARNING, Severity.NOTICE
ENOUGH = 5
"""Changes in a row of which no webhook came: one or two are lost at any shop, five running are a subscription."""
PRESUMED = 1800.0
"""Seconds after which silence is taken for a subscription that is gone, and no longer for webhooks that are late."""
LIMIT = 4 * 3600.0
"""Seconds over which Shopify tries a webhook 8 times more; then it removes a subscription that was made by the API
(shopify.dev/changelog/updates-to-webhook-retry-mechanism)."""
NEAR_LIMIT = 3600.0
"""A quarter of that: Shopify doesn't publish its intervals, and the first tries come close together."""
REMEMBERED = 86_400.0
"""Seconds for which an outage is reported: a day, so that whoever comes in the morning sees the night's."""
SOON, NEAR = 60, 14
"""Days before a version's support ends: time to plan the change, and the last to make it."""
RENEWED, EXPIRING = 14, 3
"""Days before a certificate ends by which it should have been renewed (Let's Encrypt's clients do so at 30), and the last to see to it."""
PASSING = frozenset({"unreachable", "unavailable", "throttled"})
"""Reasons that are likely to be over by the next look."""
_APPROVAL = "ask Shopify for it, in the app's API access requests, under protected customer data access"
_REMEDIES = {
    "unauthorized": "install the app again if it was uninstalled, and set its new token in HOOKTAPE_SHOP_TOKENS, or wherever tokens come "
                    "from; `hooktape reconcile --once` tries at once",
    "not_permitted": "install the app in this shop, or get its tokens another way: see docs/shopify.md, 1",
    "permanent_token": "ask for expiring tokens, and have the app hand them over: HOOKTAPE_SHOP_TOKENS_URL",
    "credentials": "set the app's own client id and secret: HOOKTAPE_SHOPIFY_CLIENT_ID, HOOKTAPE_SHOPIFY_SECRETS",
    "token_source": "see that what HOOKTAPE_SHOP_TOKENS_URL names answers, or Shopify's own status page",
    "payment_required": "the merchant has to pay Shopify; leave the ingestor on, a frozen shop can still send webhooks",
    "forbidden": "see the app's access to this shop in the Dev Dashboard, and the scopes that the shop has granted",
    "access_denied": "grant the scope that the message names, and install the app again",
    "locked": "Shopify or the merchant has to unlock the shop; leave the ingestor on",
    "shop_inactive": "the shop is closed or paused; take it out of the shops if it's gone for good",
    "not_found": "correct the shop's domain, or HOOKTAPE_ADMIN_URL",
    "wrong_shop": "put each token beside its own shop",
    "protected": _APPROVAL,
    "no_token": "hand over a token for it (HOOKTAPE_SHOP_TOKENS, or wherever tokens come from), or take it out of the shops",
    "api_version": "set HOOKTAPE_ADMIN_API_VERSION to a version that Shopify supports; until then nothing is reconciled",
}  # fmt: skip


def diagnose(declared: Declared, seen: Seen | Closed, evidence: Evidence | Unheard, reached: Reached,
             now: float) -> tuple[Finding, ...]:  # fmt: skip
    """Everything that is wrong, the worst first. What couldn't be looked at isn't among it: see `unjudged`."""
    found: list[Finding] = []
    if isinstance(seen, Closed):
        passing = seen.reason in PASSING
        remedy = "the next look asks again" if passing else _REMEDIES.get(seen.reason, "see the message")
        found.append(Finding(Problem.CLOSED, seen.reason, WARNING if passing else ERROR, seen.why, remedy))
        excused: frozenset[str] = frozenset()
    else:
        found += _shown(declared, seen)
        found += _scopes(declared, seen, evidence)
        found += _protected(declared, seen, evidence)
        found += _support(declared, seen, now)
        excused = frozenset(f.subject for f in found if f.problem in (Problem.MISSING, Problem.ADDRESS)) | _barred(declared, seen).keys()
    found += _reached(declared, evidence, reached, now)
    if isinstance(evidence, Unheard):
        found.append(Finding(Problem.UNHEARD, "tape", ERROR, f"the tape can't be read, so that nothing is known of what comes: "
                             f"{evidence.why}", "look at Kafka, and HOOKTAPE_KAFKA"))  # fmt: skip
    else:
        found += _silence(declared, seen, evidence, excused, now)
        found += _delivered(declared, evidence)
        found += _refused(declared, evidence, now)
    worst = list(Severity)
    return tuple(sorted(found, key=lambda f: (worst.index(f.severity), list(Problem).index(f.problem), f.subject)))


def unjudged(seen: Seen | Closed, evidence: Evidence | Unheard) -> frozenset[Problem]:
    """What this look can't tell: an earlier finding of such a kind stands until one can."""
    by_api = frozenset(Problem) - BY_TAPE - BY_ASKING - {Problem.CLOSED} if isinstance(seen, Closed) else frozenset()
    return by_api | (BY_TAPE - {Problem.UNHEARD} if isinstance(evidence, Unheard) else frozenset())


def ours(declared: Declared, uri: str) -> bool:
    """Whether an address is the declared one, or a path below it."""
    if not declared.address:
        return True
    meant, is_ = urlsplit(declared.address), urlsplit(uri)
    path, base = is_.path.rstrip("/"), meant.path.rstrip("/")
    same = (is_.scheme, (is_.netloc or "").lower()) == (meant.scheme, meant.netloc.lower())
    return same and (path == base or path.startswith(f"{base}/"))


def creatable(declared: Declared, findings: Iterable[Finding]) -> tuple[str, ...]:
    """The topics whose subscription can be made: declared as made by the API, not there, and allowed by the scopes."""
    if declared.outside or not declared.address:
        return ()
    return tuple(f.subject for f in findings if f.problem is Problem.MISSING)


def support_ends(version: str) -> datetime | None:
    """When Shopify's promise of support for a version ends: a year after its release, on the first day of its quarter at 17:00 UTC
    (shopify.dev/docs/api/usage/versioning). None for what has no date, as `unstable`."""
    try:
        released = datetime.strptime(version, "%Y-%m")
    except ValueError:
        return None
    return released.replace(year=released.year + 1, hour=17, tzinfo=UTC)


# ── what the API shows ──────────────────────────────────────────────────────────────────────────────────────────────
def _shown(declared: Declared, seen: Seen) -> Iterator[Finding]:
    here: dict[str, list[Subscription]] = defaultdict(list)
    elsewhere: dict[str, list[Subscription]] = defaultdict(list)
    for one in seen.subscriptions:
        (here if ours(declared, one.uri) else elsewhere)[one.topic].append(one)
    if not declared.outside:
        yield from _missing(declared, seen, here, elsewhere)
    for topic, made in here.items():
        if topic not in declared.topics:
            yield Finding(Problem.UNKNOWN, topic, NOTICE, "subscribed to, and not among HOOKTAPE_TOPICS: it goes to the log of other "
                          "topics", "add it to HOOKTAPE_TOPICS and run `hooktape topics apply`, or end the subscription")  # fmt: skip
        elif declared.outside:
            yield Finding(Problem.TWICE, topic, WARNING, "the API shows a subscription of this shop's, beside that of the app's "
                          "configuration: each event comes twice", "delete one of them; if the app subscribes by the API and not by its "
                          "configuration, set HOOKTAPE_SUBSCRIBED_BY=api")  # fmt: skip
        elif len(made) > 1:
            yield Finding(Problem.DUPLICATE, topic, WARNING, f"{len(made)} subscriptions send it here: each event comes as often",
                          f"delete all but one: {', '.join(one.gid for one in made[1:])}")  # fmt: skip
        yield from _form(declared, topic, made)


def _missing(declared: Declared, seen: Seen, here: dict[str, list[Subscription]],
             elsewhere: dict[str, list[Subscription]]) -> Iterator[Finding]:  # fmt: skip
    barred = _barred(declared, seen)
    for topic in declared.topics:
        # Compliance topics have no name in the API: they are subscribed to in the app's configuration alone.
        if topic in here or topic in barred or not shopify.table()[topic].enum:
            continue
        other = elsewhere.get(topic)
        if other:
            yield Finding(Problem.ADDRESS, topic, ERROR, f"its subscription sends to {other[0].uri} and not to {declared.address}",
                          "correct the subscription's address, or HOOKTAPE_WEBHOOK_URL")  # fmt: skip
        else:
            yield Finding(Problem.MISSING, topic, ERROR, "no subscription: Shopify doesn't send it",
                          "`hooktape doctor --repair` makes one; Shopify removes a subscription after 8 failed tries")  # fmt: skip


def _form(declared: Declared, topic: str, made: Iterable[Subscription]) -> Iterator[Finding]:
    """Whether what is sent can be used; one finding of a kind, however many subscriptions a topic has."""
    found: dict[Problem, Finding] = {}
    for one in made:
        for finding in _judge(declared, topic, one):
            found.setdefault(finding.problem, finding)
    yield from found.values()


def _judge(declared: Declared, topic: str, one: Subscription) -> Iterator[Finding]:
    if one.format != "JSON":
        yield Finding(Problem.FORMAT, topic, ERROR, f"it's sent as {one.format}, which no handler can read", "change its format to JSON")
    if lacking := [name for name in needed(topic) if one.fields and not _includes(one.fields, name)]:
        names = " and ".join(lacking)
        yield Finding(Problem.FIELDS, topic, ERROR, f"its includeFields lack {names}: neither order nor reconciliation is possible",
                      f"add {names}, or include all fields")  # fmt: skip
    if one.filter:
        yield Finding(Problem.FILTER, topic, ERROR, f"it has the filter {one.filter!r}: what doesn't match is never sent, and the "
                      "reconciler records it as missing", "remove the filter, and leave out in the handler what isn't wanted")  # fmt: skip
    if absent := [name for name in declared.namespaces if name not in one.namespaces]:
        yield Finding(Problem.METAFIELDS, topic, WARNING, f"its metafieldNamespaces lack {', '.join(absent)}", "add them")
    if not one.supported:
        yield Finding(Problem.VERSION, topic, ERROR, f"it's made for API version {one.version}, which Shopify no longer supports: bodies "
                      "have the form of another version", f"make it anew with {declared.version}")  # fmt: skip
    elif one.version and one.version != declared.version:
        yield Finding(Problem.VERSION, topic, WARNING, f"its bodies are of API version {one.version} and not of {declared.version}, as the "
                      "reconciler's are", f"make it anew with {declared.version}, or set HOOKTAPE_ADMIN_API_VERSION")  # fmt: skip


def _includes(fields: Iterable[str], name: str) -> bool:
    return any(one == name or one.startswith(f"{name}.") for one in fields)


def _barred(declared: Declared, seen: Seen) -> dict[str, tuple[str, ...]]:
    """Declared topics that the granted scopes don't allow → the scopes of which one would do."""
    return {topic: scopes for topic in declared.topics if (scopes := shopify.table()[topic].scopes)
            and not any(may_read(seen.scopes, scope.removeprefix("read_")) for scope in scopes)}  # fmt: skip


def _scopes(declared: Declared, seen: Seen, evidence: Evidence | Unheard) -> Iterator[Finding]:
    heard = {} if isinstance(evidence, Unheard) else evidence.heard
    barred: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for topic, scopes in _barred(declared, seen).items():
        barred[scopes].append(topic)
    for scopes, topics in barred.items():
        # What came before and can't any more was taken away; what never came may never have been wanted.
        lost = any(topic in heard and heard[topic].triggered_us for topic in topics)
        how = "has lost" if lost else "hasn't"
        yield Finding(Problem.SCOPE, " or ".join(scopes), ERROR if lost else WARNING, f"the app {how} this scope: Shopify doesn't send "
                      f"{', '.join(topics)}, and the reconciler can't check them", "grant it and install the app again, or take these "
                      "topics out of HOOKTAPE_TOPICS")  # fmt: skip
    if any(topic.startswith("orders/") for topic in declared.topics) and "read_all_orders" not in seen.scopes:
        yield Finding(Problem.HISTORY, "read_all_orders", NOTICE, "without this scope Shopify shows orders of the last 60 days only: "
                      "older ones, and deleted orders, can't be checked", "ask Shopify for it, in the app's API access requests, "
                      "if that matters")  # fmt: skip


def _protected(declared: Declared, seen: Seen, evidence: Evidence | Unheard) -> Iterator[Finding]:
    heard = {} if isinstance(evidence, Unheard) else evidence.heard
    for family in seen.barred:
        lost = any(topic.startswith(f"{family}/") and heard[topic].triggered_us for topic in declared.topics if topic in heard)
        how = "is no longer" if lost else "isn't"
        yield Finding(Problem.PROTECTED, family, ERROR if lost else WARNING, f"the app {how} approved for protected customer data: Shopify "
                      f"sends no webhooks of {family}, and shows none", _APPROVAL)  # fmt: skip
    for kind in seen.hidden:
        yield Finding(Problem.PROTECTED, kind, NOTICE, f"the app isn't approved for customers' data of this kind ({kind}): webhooks come "
                      "without it, and synthetic events lack it", f"{_APPROVAL}, if that matters")  # fmt: skip


def _support(declared: Declared, seen: Seen, now: float) -> Iterator[Finding]:
    version, supported = declared.version, [handle for handle, good in sorted(seen.versions.items()) if good]
    newest = f"set HOOKTAPE_ADMIN_API_VERSION to {supported[-1] if supported else 'a newer one'}, and the app's own api_version"
    ends = support_ends(version)
    if not seen.versions.get(version, False):
        yield Finding(Problem.SUPPORT, version, ERROR, f"Shopify doesn't support API version {version}", newest)
    elif ends is not None and (days := (ends.timestamp() - now) / 86_400) <= SOON:
        # No number of days: a finding's words should stay the same from look to look.
        yield Finding(Problem.SUPPORT, version, ERROR if days <= NEAR else WARNING, f"Shopify promises to support API version {version} "
                      f"until {ends:%Y-%m-%d}: after that it may answer with another version, and nothing is reconciled",
                      newest)  # fmt: skip


# ── the address ─────────────────────────────────────────────────────────────────────────────────────────────────────
def _reached(declared: Declared, evidence: Evidence | Unheard, reached: Reached, now: float) -> Iterator[Finding]:
    if not declared.address:
        yield Finding(Problem.UNSET, "HOOKTAPE_WEBHOOK_URL", NOTICE, "HOOKTAPE_WEBHOOK_URL isn't set, so that nobody can check whether "
                      "it leads here, nor a subscription's address", "set it to the address that Shopify sends webhooks to")  # fmt: skip
        return
    heard = () if isinstance(evidence, Unheard) else evidence.heard.values()
    # Whatever the way from here is like: Shopify has found it.
    comes = max((one.triggered_us for one in heard), default=0) / 1e6 > now - PRESUMED
    if reached.why and not comes:
        yield Finding(Problem.UNREACHABLE, "HOOKTAPE_WEBHOOK_URL", WARNING, f"asked from here, {declared.address} doesn't lead to an "
                      f"ingestor: {reached.why}; and no webhook of this shop has come for half an hour", "look at DNS, the proxy, its "
                      "certificate, and whether the ingestor runs")  # fmt: skip
    if reached.expires is not None and (days := (reached.expires - now) / 86_400) <= RENEWED:
        ends = iso(round(reached.expires * 1e6))
        yield Finding(Problem.CERTIFICATE, "HOOKTAPE_WEBHOOK_URL", ERROR if days <= EXPIRING else WARNING, "the certificate of "
                      f"{declared.address} ends at {ends}: Shopify delivers nothing after that", "renew it, and see why it wasn't "
                      "renewed by itself")  # fmt: skip


# ── what comes ──────────────────────────────────────────────────────────────────────────────────────────────────────
def _silence(declared: Declared, seen: Seen | Closed, evidence: Evidence, excused: frozenset[str], now: float) -> Iterator[Finding]:
    shown = {one.topic for one in seen.subscriptions} if isinstance(seen, Seen) else set()
    for topic in declared.topics:
        heard = evidence.heard.get(topic, Heard())
        missed = [at for at in evidence.missing.get(topic, ()) if at > heard.triggered_us]
        count, since = len(missed) + heard.recorded, min([*missed, *([heard.recorded_us] if heard.recorded else [])], default=0)
        lasting = now - since / 1e6
        if topic in excused or count < ENOUGH or lasting < declared.suspect:
            continue
        what = f"the Admin API shows {count} changes in a row since {iso(since)} of which no webhook came"
        gone = lasting >= PRESUMED
        if declared.outside:
            remedy = "deploy the app's configuration (`shopify app deploy`): the API can't show or make such a subscription"
        elif topic in shown:
            remedy = "the API shows its subscription: see Shopify's delivery log, whether the address answers, and its filter"
        else:
            remedy = "run `hooktape doctor` again once the Admin API answers"
        verdict = "presumed gone" if gone else "late, or gone"
        yield Finding(Problem.SILENT, topic, ERROR if gone else WARNING, f"{what}: {verdict}", remedy)


def _delivered(declared: Declared, evidence: Evidence) -> Iterator[Finding]:
    for topic in declared.topics:
        heard = evidence.heard.get(topic)
        if heard is None or not heard.triggered_us:
            continue
        if heard.version and heard.version != declared.version:
            yield Finding(Problem.DELIVERED_VERSION, topic, WARNING, f"it comes as API version {heard.version}, the reconciler's as "
                          f"{declared.version}", "set the app's api_version and HOOKTAPE_ADMIN_API_VERSION to the same")  # fmt: skip
        if heard.lacks:
            names = " and no ".join(heard.lacks)
            yield Finding(Problem.DELIVERED_FIELDS, topic, ERROR, f"its newest body has no {names}: neither order nor reconciliation is "
                      "possible", "add them to the subscription's include_fields")  # fmt: skip


def _refused(declared: Declared, evidence: Evidence, now: float) -> Iterator[Finding]:
    recent = [one for one in evidence.outages if one.until_us / 1e6 > now - REMEMBERED]
    longest = max(recent, key=lambda one: one.seconds, default=None)
    if longest is None or longest.seconds < NEAR_LIMIT:
        return
    beyond = longest.seconds >= LIMIT
    lost = "Shopify has given up what it sent first" if beyond else "Shopify tries for 4 h"
    removes = "" if declared.outside else ", and removes a subscription made by the API after 8 failed tries"
    what = f"{_lasted(longest)} every webhook was answered with 503: {lost}{removes}"
    yield Finding(Problem.REFUSED, "ingest", ERROR if beyond else WARNING, what, "mend what kept Kafka from acknowledging; "
                  "`hooktape reconcile --once --now` records what is missing")  # fmt: skip


def _lasted(outage: Outage) -> str:
    minutes = int(outage.seconds // 60)
    return f"from {iso(outage.since_us)}, for {minutes // 60} h {minutes % 60:02} min,"
