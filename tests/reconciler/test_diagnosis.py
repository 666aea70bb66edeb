"""From what is declared, seen and heard to findings: each thing that can be wrong, and what must not be taken for it."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.reconciler.doctor.diagnosis import creatable, diagnose, support_ends, unjudged
from hooktape.reconciler.doctor.facts import (
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
from hooktape.schemas import topics as shopify
from hooktape.settings import Settings

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()
URL = "https://hooks.example/webhooks"
UPDATED, PRODUCT = "orders/updated", "products/update"
BY_APP = Declared((UPDATED, PRODUCT), "app", URL, "2026-04")
BY_API = replace(BY_APP, by="api")
SCOPES = frozenset({"read_orders", "read_products", "read_all_orders"})
VERSIONS = {"2026-01": True, "2026-04": True, "2026-07": True, "2026-10": True, "unstable": False}
ORDER, GOOD = Subscription("gid://1", UPDATED, URL, version="2026-04"), Subscription("gid://2", PRODUCT, URL, version="2026-04")
WHOLE = Seen((ORDER, GOOD), SCOPES, VERSIONS)
EMPTY = replace(WHOLE, subscriptions=())
QUIET = Evidence()
HERE = Reached()


def ago(minutes: float) -> int:
    """That many minutes before now, in microseconds."""
    return round((NOW - 60 * minutes) * 1_000_000)


def missing(count: int, minutes: float, topic: str = UPDATED) -> Evidence:
    """So many changes that no webhook told of, the first of them that long ago."""
    return Evidence(missing={topic: tuple(ago(minutes) + n for n in range(count))})


def said(declared: Declared = BY_API, seen: Seen | Closed = WHOLE, evidence: Evidence | Unheard = QUIET,
         now: float = NOW, reached: Reached = HERE) -> dict[tuple[Problem, str], Finding]:  # fmt: skip
    found = diagnose(declared, seen, evidence, reached, now)
    by_name = {(one.problem, one.subject): one for one in found}
    assert len(by_name) == len(found)
    return by_name


def only(found: dict[tuple[Problem, str], Finding], problem: Problem, subject: str = UPDATED) -> Finding:
    assert set(found) == {(problem, subject)}
    return found[problem, subject]


def with_order(**changes: object) -> Seen:
    return replace(WHOLE, subscriptions=(replace(ORDER, **changes), GOOD))  # type: ignore[arg-type]


# ── what the API shows ──────────────────────────────────────────────────────────────────────────────────────────────
def test_a_shop_that_is_subscribed_as_declared_has_nothing_wrong() -> None:
    assert said() == {}
    assert said(BY_APP, EMPTY) == {}


def test_a_subscription_that_the_api_should_show_and_does_not_is_missing_and_can_be_made() -> None:
    found = said(seen=replace(WHOLE, subscriptions=(GOOD,)))
    finding = only(found, Problem.MISSING)
    assert finding.severity is Severity.ERROR
    assert "hooktape doctor --repair" in finding.remedy
    assert creatable(BY_API, found.values()) == (UPDATED,)


def test_an_empty_list_proves_nothing_where_the_apps_configuration_subscribes() -> None:
    assert said(BY_APP, EMPTY) == {}
    assert creatable(BY_APP, diagnose(BY_API, EMPTY, QUIET, HERE, NOW)) == ()


def test_nothing_is_made_without_an_address_and_that_it_is_missing_is_said() -> None:
    declared = replace(BY_API, address="")
    found = said(declared, EMPTY)
    assert found[Problem.UNSET, "HOOKTAPE_WEBHOOK_URL"].severity is Severity.NOTICE
    assert creatable(declared, found.values()) == ()


def test_compliance_topics_are_never_asked_of_the_api() -> None:
    assert said(replace(BY_API, topics=("customers/redact", "shop/redact", UPDATED, PRODUCT))) == {}


def test_a_subscription_that_sends_elsewhere_is_not_the_declared_one() -> None:
    finding = only(said(seen=with_order(uri="https://other.example/webhooks")), Problem.ADDRESS)
    assert "https://other.example/webhooks" in finding.what


@pytest.mark.parametrize("uri", [URL, f"{URL}/", f"{URL}/acme", "https://HOOKS.example/webhooks", "https://hooks.example:443/webhooks"])
def test_a_path_below_the_address_is_the_address(uri: str) -> None:
    assert said(seen=with_order(uri=uri)) == {}


@pytest.mark.parametrize("uri", ["http://hooks.example/webhooks", "http://hooks.example:443/webhooks", "https://hooks.example:8443/webhooks",
                                 "https://hooks.example/webhooks2", "pubsub://project:topic"])  # fmt: skip
def test_another_scheme_path_or_kind_of_address_is_not(uri: str) -> None:
    assert (Problem.ADDRESS, UPDATED) in said(seen=with_order(uri=uri))


def test_xml_is_an_error() -> None:
    assert only(said(seen=with_order(format="XML")), Problem.FORMAT).severity is Severity.ERROR


def test_dropped_fields_that_order_and_reconciliation_need_are_an_error() -> None:
    finding = only(said(seen=with_order(fields=("id", "name"))), Problem.FIELDS)
    assert "lack updated_at" in finding.what
    assert said(seen=with_order(fields=("id", "updated_at", "name"))) == {}


def test_a_filter_is_an_error_since_what_it_leaves_out_is_recorded_as_missing() -> None:
    assert "'total_price:>100'" in only(said(seen=with_order(filter="total_price:>100")), Problem.FILTER).what


def test_metafield_namespaces_are_compared_with_the_declared_ones() -> None:
    declared = replace(BY_API, namespaces=("custom", "mine"))
    found = said(declared, with_order(namespaces=("mine", "custom", "more")))
    assert set(found) == {(Problem.METAFIELDS, PRODUCT)}


def test_a_subscription_of_another_version_is_a_warning_and_of_an_unsupported_one_an_error() -> None:
    assert only(said(seen=with_order(version="2026-07")), Problem.VERSION).severity is Severity.WARNING
    assert only(said(seen=with_order(version="2025-01", supported=False)), Problem.VERSION).severity is Severity.ERROR


def test_two_subscriptions_of_one_topic_double_each_event() -> None:
    twin = replace(ORDER, gid="gid://3")
    finding = only(said(seen=replace(WHOLE, subscriptions=(ORDER, GOOD, twin))), Problem.DUPLICATE)
    assert "gid://3" in finding.remedy
    assert "gid://1" not in finding.remedy


def test_a_subscription_by_the_api_beside_the_apps_configuration_doubles_each_event() -> None:
    found = said(BY_APP, replace(WHOLE, subscriptions=(ORDER,)))
    assert "HOOKTAPE_SUBSCRIBED_BY=api" in only(found, Problem.TWICE).remedy


def test_a_subscription_that_nobody_declared_is_worth_knowing() -> None:
    other = replace(ORDER, topic="carts/update")
    assert only(said(seen=replace(WHOLE, subscriptions=(ORDER, GOOD, other))), Problem.UNKNOWN, "carts/update").severity is Severity.NOTICE
    elsewhere = replace(other, uri="https://other.example/")
    assert said(seen=replace(WHOLE, subscriptions=(ORDER, GOOD, elsewhere))) == {}


# ── scopes, versions, status ────────────────────────────────────────────────────────────────────────────────────────
def test_a_scope_that_was_never_there_is_a_warning_and_a_lost_one_an_error() -> None:
    without = Seen((GOOD,), SCOPES - {"read_orders"}, VERSIONS)
    ((key, finding),) = said(seen=without).items()
    assert key[0] is Problem.SCOPE
    assert "read_orders" in key[1]
    assert UPDATED in finding.what
    assert finding.severity is Severity.WARNING
    came = Evidence({UPDATED: Heard(ago(60), "2026-04")})
    assert said(seen=without, evidence=came)[key].severity is Severity.ERROR


def test_writing_is_reading_too() -> None:
    assert said(seen=replace(WHOLE, scopes=frozenset({"write_orders", "write_products", "read_all_orders"}))) == {}


def test_without_read_all_orders_it_is_said_what_cannot_be_checked() -> None:
    found = said(seen=replace(WHOLE, scopes=SCOPES - {"read_all_orders"}))
    assert only(found, Problem.HISTORY, "read_all_orders").severity is Severity.NOTICE


def test_what_an_app_is_not_approved_for_is_worth_knowing_and_whole_families_a_warning_and_once_they_had_come_an_error() -> None:
    found = said(seen=replace(WHOLE, hidden=frozenset({"email", "phone"})))
    assert {(key, one.severity) for key, one in found.items()} == {
        ((Problem.PROTECTED, "email"), Severity.NOTICE), ((Problem.PROTECTED, "phone"), Severity.NOTICE)}  # fmt: skip
    barred = replace(WHOLE, barred=frozenset({"orders"}))
    assert only(said(seen=barred), Problem.PROTECTED, "orders").severity is Severity.WARNING
    came = Evidence({UPDATED: Heard(ago(60), "2026-04")})
    assert only(said(seen=barred, evidence=came), Problem.PROTECTED, "orders").severity is Severity.ERROR


def test_an_address_that_leads_nowhere_is_a_warning_unless_webhooks_come_all_the_same() -> None:
    nowhere = Reached("it can't be connected to")
    finding = only(said(reached=nowhere), Problem.UNREACHABLE, "HOOKTAPE_WEBHOOK_URL")
    assert finding.severity is Severity.WARNING
    assert URL in finding.what
    assert "it can't be connected to" in finding.what
    long_ago, just_now = (Evidence({UPDATED: Heard(ago(minutes), "2026-04")}) for minutes in (31, 29))
    only(said(evidence=long_ago, reached=nowhere), Problem.UNREACHABLE, "HOOKTAPE_WEBHOOK_URL")
    assert said(evidence=just_now, reached=nowhere) == {}


@pytest.mark.parametrize(("days", "severity"), [(14.1, None), (14, Severity.WARNING), (3.1, Severity.WARNING), (3, Severity.ERROR),
                                                (-1, Severity.ERROR)])  # fmt: skip
def test_a_certificate_that_should_have_been_renewed_is_a_warning_and_in_its_last_days_an_error(
    days: float, severity: Severity | None
) -> None:
    found = said(reached=Reached(expires=NOW + days * 86_400))
    assert [one.severity for one in found.values()] == ([] if severity is None else [severity])
    assert set(found) <= {(Problem.CERTIFICATE, "HOOKTAPE_WEBHOOK_URL")}


@pytest.mark.parametrize(("days", "severity"), [
    (60.1, None), (60, Severity.WARNING), (14.1, Severity.WARNING), (14, Severity.ERROR), (-1, Severity.ERROR)])
def test_the_end_of_a_versions_support_is_a_warning_at_60_days_and_an_error_at_14(days: float, severity: Severity | None) -> None:
    ends = support_ends("2026-04")
    assert ends == datetime(2027, 4, 1, 17, tzinfo=UTC)
    found = said(now=ends.timestamp() - 86_400 * days)
    assert [one.severity for one in found.values()] == ([severity] if severity else [])


def test_a_version_that_shopify_does_not_support_or_list_is_an_error() -> None:
    assert only(said(seen=replace(WHOLE, versions={**VERSIONS, "2026-04": False})), Problem.SUPPORT, "2026-04").severity is Severity.ERROR
    finding = only(said(seen=replace(WHOLE, versions={"2026-10": True})), Problem.SUPPORT, "2026-04")
    assert "to 2026-10" in finding.remedy
    assert support_ends("unstable") is None


@pytest.mark.parametrize(("reason", "says"), [
    ("unauthorized", "HOOKTAPE_SHOP_TOKENS"), ("payment_required", "pay"), ("forbidden", "Dev Dashboard"), ("not_found", "domain"),
    ("locked", "unlock"), ("shop_inactive", "closed or paused"), ("access_denied", "scope"), ("protected", "protected customer data"),
    ("api_version", "HOOKTAPE_ADMIN_API_VERSION"), ("wrong_shop", "beside its own shop")])  # fmt: skip
def test_each_reason_why_the_api_is_closed_has_something_of_its_own_to_do(reason: str, says: str) -> None:
    finding = only(said(seen=Closed(reason, "as the client said")), Problem.CLOSED, reason)
    assert (finding.severity, finding.what) == (Severity.ERROR, "as the client said")
    assert says in finding.remedy


def test_a_shop_that_does_not_answer_now_is_a_warning() -> None:
    assert only(said(seen=Closed("unreachable", "…")), Problem.CLOSED, "unreachable").severity is Severity.WARNING


def test_what_could_not_be_looked_at_is_not_taken_for_mended() -> None:
    assert unjudged(WHOLE, QUIET) == frozenset()
    assert Problem.MISSING in unjudged(Closed("locked", ""), QUIET)
    assert not unjudged(Closed("locked", ""), QUIET) & (BY_TAPE | {Problem.CLOSED})
    assert unjudged(WHOLE, Unheard("")) == BY_TAPE - {Problem.UNHEARD} | {Problem.UNREACHABLE}


# ── silence ─────────────────────────────────────────────────────────────────────────────────────────────────────────
def test_five_changes_without_a_webhook_are_late_or_gone_and_after_half_an_hour_presumed_gone() -> None:
    late = only(said(BY_APP, EMPTY, missing(5, 10)), Problem.SILENT)
    assert (late.severity, "late, or gone" in late.what) == (Severity.WARNING, True)
    gone = only(said(BY_APP, EMPTY, missing(5, 31)), Problem.SILENT)
    assert (gone.severity, "presumed gone" in gone.what) == (Severity.ERROR, True)
    assert "shopify app deploy" in gone.remedy


def test_four_changes_or_five_of_a_moment_ago_prove_nothing() -> None:
    assert said(BY_APP, EMPTY, missing(4, 300)) == {}
    assert said(BY_APP, EMPTY, missing(5, 4)) == {}


def test_webhooks_that_came_since_end_the_silence_whatever_is_missing() -> None:
    evidence = replace(missing(50, 40), heard={UPDATED: Heard(ago(1), "2026-04")})
    assert said(BY_APP, EMPTY, evidence) == {}
    earlier = replace(missing(50, 40), heard={UPDATED: Heard(ago(41), "2026-04")})
    assert (Problem.SILENT, UPDATED) in said(BY_APP, EMPTY, earlier)


def test_changes_that_the_reconciler_has_recorded_since_the_last_webhook_count_too() -> None:
    heard = Heard(ago(600), "2026-04", recorded=4, recorded_us=ago(500))
    finding = only(said(BY_APP, EMPTY, replace(missing(1, 6), heard={UPDATED: heard})), Problem.SILENT)
    assert "5 changes" in finding.what
    assert finding.severity is Severity.ERROR


def test_a_topic_is_not_called_silent_where_a_better_reason_is_known() -> None:
    gone = missing(9, 40)
    assert set(said(BY_API, replace(WHOLE, subscriptions=(GOOD,)), gone)) == {(Problem.MISSING, UPDATED)}
    assert set(said(BY_API, with_order(uri="https://other.example/"), gone)) == {(Problem.ADDRESS, UPDATED)}
    barred = Seen((), SCOPES - {"read_orders"}, VERSIONS)
    assert {problem for problem, _ in said(BY_APP, barred, gone)} == {Problem.SCOPE}


def test_a_subscription_that_is_shown_and_silent_sends_somebody_to_the_delivery_log() -> None:
    assert "delivery log" in only(said(BY_API, WHOLE, missing(9, 40)), Problem.SILENT).remedy


def test_silence_is_told_while_the_api_is_closed() -> None:
    assert (Problem.SILENT, UPDATED) in said(BY_APP, Closed("throttled", ""), missing(9, 40))


# ── what comes ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_webhooks_of_another_version_than_the_reconcilers_are_a_warning() -> None:
    finding = only(said(evidence=Evidence({UPDATED: Heard(ago(1), "2025-10")})), Problem.DELIVERED_VERSION)
    assert "2025-10" in finding.what
    assert said(evidence=Evidence({UPDATED: Heard(ago(1), "2026-04"), PRODUCT: Heard(recorded=1, recorded_us=ago(1))})) == {}


def test_bodies_without_what_is_needed_are_an_error_though_the_api_shows_no_subscription() -> None:
    heard = Heard(ago(1), "2026-04", lacks=("updated_at",))
    assert "no updated_at" in only(said(BY_APP, EMPTY, Evidence({UPDATED: heard})), Problem.DELIVERED_FIELDS).what


@pytest.mark.parametrize(("hours", "severity"), [(0.9, None), (1, Severity.WARNING), (3.9, Severity.WARNING), (4, Severity.ERROR)])
def test_refusals_in_a_row_are_a_warning_near_shopifys_limit_and_an_error_beyond(hours: float, severity: Severity | None) -> None:
    outage = Outage(ago(60 * hours + 30), ago(30))
    found = said(evidence=Evidence(outages=(outage, Outage(ago(10), ago(9)))))
    assert [one.severity for one in found.values()] == ([severity] if severity else [])
    assert all("removes a subscription" in one.what for one in found.values())
    assert all("removes a subscription" not in one.what for one in said(BY_APP, EMPTY, Evidence(outages=(outage,))).values())


def test_an_outage_is_reported_for_a_day() -> None:
    assert said(evidence=Evidence(outages=(Outage(ago(30 * 60), ago(25 * 60)),))) == {}


def test_a_tape_that_cannot_be_read_is_an_error_of_its_own() -> None:
    assert only(said(evidence=Unheard("Kafka doesn't answer")), Problem.UNHEARD, "tape").severity is Severity.ERROR


# ── in general ──────────────────────────────────────────────────────────────────────────────────────────────────────
def test_the_members_that_are_needed_are_those_that_order_and_version_come_from() -> None:
    assert needed("orders/updated") == ("id", "updated_at")
    assert needed("orders/delete") == ("id",)
    assert needed("refunds/create") == ("id", "created_at")
    assert needed("inventory_levels/update") == ("inventory_item_id", "location_id", "updated_at")
    assert needed("returns/request") == needed("subscription_contracts/pause") == ("id",)
    assert needed("segments/update") == ("id", "lastEditDate")
    assert needed("carts/update") == ()


SUBSCRIPTIONS = st.builds(
    Subscription, st.just("gid://x"), st.sampled_from([UPDATED, PRODUCT, "carts/update", "new/topic"]), st.sampled_from([URL, "https://x/"]),
    st.sampled_from(["JSON", "XML"]), st.sampled_from(["", "id:1"]), st.sampled_from([(), ("id",)]), st.just(()),
    st.sampled_from(["2026-04", "2024-01"]), st.booleans())  # fmt: skip
HEARD = st.builds(Heard, st.integers(0, ago(0)), st.sampled_from(["2026-04", "2026-01"]), st.sampled_from([(), ("id",)]),
                  st.integers(0, 9), st.integers(ago(90), ago(0)))  # fmt: skip
EVIDENCE = st.builds(
    Evidence, st.dictionaries(st.sampled_from([UPDATED, PRODUCT]), HEARD),
    st.dictionaries(st.sampled_from([UPDATED, PRODUCT]), st.lists(st.integers(ago(90), ago(0)), max_size=9).map(tuple)))  # fmt: skip
SEEN = st.builds(Seen, st.lists(SUBSCRIPTIONS, max_size=6).map(tuple), st.frozensets(st.sampled_from(sorted(SCOPES))), st.just(VERSIONS))


@given(st.sampled_from([BY_APP, BY_API]), SEEN | st.builds(Closed, st.sampled_from(["locked", "throttled"]), st.just("…")),
       EVIDENCE | st.just(Unheard("…")))  # fmt: skip
def test_whatever_is_found_each_thing_is_said_once_the_worst_first_with_something_to_do(
    declared: Declared, seen: Seen | Closed, evidence: Evidence | Unheard
) -> None:
    found = diagnose(declared, seen, evidence, HERE, NOW)
    assert len({(one.problem, one.subject) for one in found}) == len(found)
    ranks = [list(Severity).index(one.severity) for one in found]
    assert ranks == sorted(ranks)
    assert all(one.what and one.remedy for one in found)
    assert not {one.problem for one in found} & unjudged(seen, evidence)
    assert set(creatable(declared, found)) <= set(declared.topics) - {
        one.topic for one in (seen.subscriptions if isinstance(seen, Seen) else ())}  # fmt: skip


def test_all_of_shopifys_topics_can_be_declared() -> None:
    declared = Declared.of(Settings(topics=("all",), subscribed_by="api", webhook_url=URL))
    made = creatable(declared, diagnose(declared, Seen((), frozenset(), VERSIONS), QUIET, HERE, NOW))
    assert set(made) == {topic for topic, row in shopify.table().items() if row.enum and not row.scopes}


def test_what_was_missed_before_a_subscription_was_made_is_no_sign_that_it_is_gone() -> None:
    lost = Evidence({UPDATED: Heard(ago(90), recorded=7, recorded_us=ago(80))}, missing(9, 25).missing)
    removed = replace(WHOLE, subscriptions=(GOOD,))
    assert (Problem.SILENT, UPDATED) not in said(seen=removed, evidence=lost)
    assert said(seen=with_order(made_us=ago(1)), evidence=lost) == {}
    # An older one beside it should have told; and a new one that misses as many is as silent.
    both = replace(WHOLE, subscriptions=(ORDER, replace(ORDER, gid="gid://9", made_us=ago(1)), GOOD))
    assert said(seen=both, evidence=lost)[Problem.SILENT, UPDATED].severity is Severity.ERROR
    assert said(seen=with_order(made_us=ago(30)), evidence=lost)[Problem.SILENT, UPDATED].severity is Severity.WARNING
    # Beside the app's configuration, of which nobody knows since when it's there.
    assert said(BY_APP, with_order(made_us=ago(1)), lost)[Problem.SILENT, UPDATED].severity is Severity.ERROR


def test_of_an_address_that_cannot_be_reached_nothing_is_said_while_nobody_knows_what_comes() -> None:
    away = Reached("it can't be connected to")
    assert said(reached=away)[Problem.UNREACHABLE, "HOOKTAPE_WEBHOOK_URL"].severity is Severity.WARNING
    assert {problem for problem, _ in said(evidence=Unheard("no broker"), reached=away)} == {Problem.UNHEARD}
    assert Problem.UNREACHABLE in unjudged(WHOLE, Unheard("no broker"))
    assert Problem.UNREACHABLE not in unjudged(WHOLE, QUIET)
