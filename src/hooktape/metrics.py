"""Every metric of Hooktape: what it means, and what to do when it moves.

All of them live here and nowhere else, so that this page is the reference. No label takes values that grow with
shops or resources on a hot counter. Figures about lag and depth are exported by `hooktape catalog`, from broker
offsets and the ledger, never by the workers: a dead worker must not silence its own alarm.
"""

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    start_http_server,
)
from prometheus_client.multiprocess import MultiProcessCollector

# Up to Shopify's 5 s and a little beyond: a request slower than that was cut off by Shopify.
_REQUEST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 4.5, 5, 10)
# A handler may take minutes.
_HANDLER = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
# From the usual second to the day that Shopify warns of.
_DELAY = (0.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)

# ── ingest ──────────────────────────────────────────────────────────────────────────────────────────────────────────
REQUESTS = Counter("hooktape_requests_total",
    "Webhook requests by outcome. Do: many bad_signature means a wrong or rotated secret; any not_durable means Kafka.",
    ["outcome"])
REQUEST_SECONDS = Histogram("hooktape_request_seconds",
    "From the request's arrival to its answer. Do: over 1 s look at publish_seconds; Shopify hangs up at 5 s.",
    buckets=_REQUEST)
EVENTS_RECEIVED = Counter("hooktape_events_received_total",
    "Events recorded on the tape. Do: a topic that falls to zero may have lost its subscription.",
    ["topic", "source"])
PUBLISH_SECONDS = Histogram("hooktape_publish_seconds",
    "From handing a record to the producer to its delivery report. Do: a growing tail is a slow or failing broker.",
    ["outcome"], buckets=_REQUEST)
SHOPIFY_DELAY = Histogram("hooktape_shopify_delay_seconds",
    "From X-Shopify-Triggered-At to arrival here. Do: when it grows, Shopify is late or retries what we refused.",
    buckets=_DELAY)
SECRET_IN_USE = Counter("hooktape_secret_in_use_total",
    "Webhooks verified, by secret. Do: revoke an old secret only after its count has stood still for over 4 h.",
    ["secret_id"])
RELABELLED = Counter("hooktape_relabelled_total",
    "Bodies seen again under another shop or topic, same signature. Do: see docs/security.md; some topics share a body by nature.")
UNPROVISIONED = Counter("hooktape_unprovisioned_total",
    "Events recorded in the log of other topics. Do: add the topic to HOOKTAPE_TOPICS and run `hooktape topics apply`.")
BREAKER_OPEN = Gauge("hooktape_breaker_open",
    "1 while ingest answers 503 at once because Kafka didn't acknowledge. Do: look at the broker.",
    multiprocess_mode="livemax")
IN_FLIGHT_BYTES = Gauge("hooktape_in_flight_bytes",
    "Bytes of bodies waiting for their acknowledgement. Do: near the bound, Kafka is slower than the traffic.",
    multiprocess_mode="livesum")

# ── consumers ───────────────────────────────────────────────────────────────────────────────────────────────────────
PROCESSED = Counter("hooktape_processed_total",
    "Events finished by a worker. Do: look at the groups of failures (`hooktape dlq groups`) when dead grows.",
    ["group", "topic", "outcome"])
PROCESSING_SECONDS = Histogram("hooktape_processing_seconds",
    "Time in the handler, one try. Do: when it nears the handler's timeout, look downstream.",
    ["group", "topic"], buckets=_HANDLER)
START_SECONDS = Histogram("hooktape_start_seconds",
    "From an event's arrival at ingest to its handler's first start. Do: when it grows, add workers or partitions.",
    ["group"], buckets=_HANDLER)
RETRIES = Counter("hooktape_retries_total",
    "Tries put off to a retry topic, by delay and class of error. Do: many `throttled` means too high a concurrency.",
    ["group", "delay", "error"])
DUPLICATES = Counter("hooktape_duplicates_total",
    "Events skipped because the group had finished or taken over the same webhook. Normal: Shopify delivers some twice.",
    ["group"])
STALE = Counter("hooktape_stale_total",
    "Events skipped because a newer version of their resource was applied already. Normal with skip_stale.",
    ["group"])
SWEPT = Counter("hooktape_swept_total",
    "Retry records that were lost and written again from the tape. Do: find what empties or shortens retry topics.",
    ["group"])
BAD_METADATA = Counter("hooktape_bad_commit_metadata_total",
    "Commits whose metadata wasn't ours: a few events are checked again. Do: find what else commits for the group.", ["group"])
REJOINS = Counter("hooktape_rejoins_total",
    "Clients made anew: forgotten by their group, alone (without a broker), or for partitions unread. Do: if it grows on, see the logs.",
    ["group", "why"])
FLOOD_OPENINGS = Counter("hooktape_flood_breaker_openings_total",
    "Topics that a worker stopped, since most of their events failed with one cause. Do: `hooktape breaker list` names the cause.",
    ["group", "topic"])
IN_FLIGHT = Gauge("hooktape_in_flight_events",
    "Events a worker holds: fetched and not finished. Do: at the bound for long, handlers are the bottleneck.",
    ["group"])
FORWARD_OPEN = Gauge("hooktape_forward_open",
    "1 while --forward's endpoint doesn't answer or answers 5xx: events wait in their lanes. Do: look at the endpoint.")
LOOP_GAP = Gauge("hooktape_loop_gap_seconds",
    "Longest wait of the worker's event loop since the last scrape. Do: over 1 s, a handler blocks the loop.")

# ── catalogue: lag and depth ────────────────────────────────────────────────────────────────────────────────────────
PENDING_SECONDS = Gauge("hooktape_pending_seconds",
    "Age of the oldest event on the tape that the group hasn't committed. Do: over 5 min, see `hooktape status`.",
    ["group", "topic"])
PENDING_EVENTS = Gauge("hooktape_pending_events",
    "Events between the group's committed offsets and the end of the tape.", ["group", "topic"])
FAILED_EVENTS = Gauge("hooktape_failed_events",
    "Events whose last try failed: waiting for a retry, or dead. Do: `hooktape dlq groups` names the causes.",
    ["group", "topic"])
HELD_EVENTS = Gauge("hooktape_held_events",
    "Events in a retry topic whose resource waits with them, untried ones behind them included. Do: see `hooktape status`.", ["group"])
HELD_RESOURCES = Gauge("hooktape_held_resources",
    "Resources whose events wait for a retry of one of them. Do: many at once is an outage downstream.", ["group"])
HELD_OVERDUE = Gauge("hooktape_held_overdue_seconds",
    "How long the longest overdue held event has been due. Do: over 30 min, see that workers run and read the retry topics.", ["group"])
FLOOD_OPEN = Gauge("hooktape_flood_breaker_open",
    "1 while workers hold a topic, since most of its events fail with one cause. Do: mend it; `hooktape breaker list` names it.",
    ["group", "topic"])
DLQ_DEPTH = Gauge("hooktape_dlq_depth",
    "Dead events and unreadable records that nobody has redriven or discarded. Do: fix the cause, then `hooktape dlq redrive`.", ["group"])
DLQ_OLDEST = Gauge("hooktape_dlq_oldest_seconds",
    "Age of the oldest dead letter that nobody has redriven or discarded. Do: act before the topic's retention (90 days) ends.", ["group"])
CATALOG_LAG = Gauge("hooktape_catalog_lag_events",
    "Records on the tape that the catalogue hasn't read. Do: while it grows, searches and figures are behind.")

DELIVERY_DELAY = Histogram("hooktape_delivery_delay_seconds",
    "From a resource's change, by its version, to its webhook's arrival, as the catalogue reads the tape. Do: when it nears "
    "HOOKTAPE_RECONCILE_GRACE, raise that.", ["topic"], buckets=_DELAY)

# ── replay ──────────────────────────────────────────────────────────────────────────────────────────────────────────
REPLAY_EVENTS = Counter("hooktape_replay_events_total",
    "Events handed to a group again, and what became of them.", ["outcome"])
REPLAY_SUCCESS = Gauge("hooktape_replay_success_ratio",
    "Succeeded or already done, of all selected events of the last ended replay. Do: below 1, see `hooktape replay show`.")
# Every process registers it, and a 0 from those that replay nothing would read as a replay that failed altogether.
REPLAY_SUCCESS.set(float("nan"))

# ── API ─────────────────────────────────────────────────────────────────────────────────────────────────────────────
API_REQUESTS = Counter("hooktape_api_requests_total",
    "Requests to the API by route and status. Do: many 401 means a revoked or wrong token; any 503 names what is away.",
    ["route", "status"])
API_SECONDS = Histogram("hooktape_api_seconds",
    "From an API request's arrival to the end of its answer, progress streams left out. Do: over 1 s, look at the ledger.",
    ["route"], buckets=_REQUEST)

# ── reconciler ──────────────────────────────────────────────────────────────────────────────────────────────────────
RECONCILE_COMPARED = Counter("hooktape_reconcile_compared_total",
    "Changes that the Admin API showed and that were compared with the tape.", ["topic"])
RECONCILE_COVERED = Counter("hooktape_reconcile_covered_total",
    "Changes that were on the tape when first compared. Do: nothing; beside missing_total it shows the share that never came.",
    ["topic"])
RECONCILE_MISSING = Counter("hooktape_reconcile_missing_total",
    "Changes that never arrived and were recorded as synthetic events. Do: several passes running, check the subscription.",
    ["topic"])
RECONCILE_BACKFILLED = Counter("hooktape_reconcile_backfilled_total",
    "Present states that a backfill recorded: of what changed last before recording began. No webhook was missed.", ["topic"])
RECONCILE_MISSING_PASSES = Gauge("hooktape_reconcile_missing_passes",
    "Passes in a row of which each recorded something, in the shop where there are most. Do: from 3 on, check the subscription.",
    ["topic"])
RECONCILE_COVERAGE = Gauge("hooktape_reconcile_coverage_ratio",
    "Of the last hour's changes whose webhook came or never came, the part that came. Do: below 1, see `hooktape reconcile report`.",
    ["topic"])
RECONCILE_UNVERIFIABLE = Gauge("hooktape_reconcile_unverifiable",
    "Topics that can't be checked, a shop's counted each: no_list (never, see docs), scope, protected (data that the app isn't approved "
    "for), or horizon (deletions). Do: get what `hooktape reconcile report` names.", ["reason"])
RECONCILE_LATE = Counter("hooktape_reconcile_late_total",
    "Changes that looked missing and arrived within the grace period. Normal in small numbers.", ["topic"])
RECONCILE_PENDING = Gauge("hooktape_reconcile_pending",
    "Changes that look missing and are still within the grace period.")
RECONCILE_SUSPECTED = Gauge("hooktape_reconcile_suspected",
    "Changes that look missing for longer than prompt webhooks take. Do: while it grows, look at the subscriptions.")
RECONCILE_HELD = Gauge("hooktape_reconcile_held_deletions",
    "Deletions that wait for a person: more than one pass may record. Do: look at `hooktape reconcile --once --dry-run`, then agree "
    "with --accept-deletes.")
RECONCILE_LATE_AFTER = Counter("hooktape_reconcile_late_after_synthetic_total",
    "Webhooks that came after their synthetic event. Do: many, raise HOOKTAPE_RECONCILE_GRACE.", ["topic"])
RECONCILE_DELETED = Counter("hooktape_reconcile_deleted_total",
    "Deletions that never arrived and were recorded as synthetic events.", ["topic"])
RECONCILE_PARKED = Gauge("hooktape_reconcile_parked_timestamp_seconds",
    "Since when a shop's Admin API is closed to the app, by reason. Do: as the reason says; it's tried again hourly, then daily.",
    ["shop", "reason"])
RECONCILE_LAST_SUCCESS = Gauge("hooktape_reconcile_last_success_timestamp_seconds",
    "When a shop's last complete pass ended. Do: when old, see `hooktape reconcile --once --shop` for the reason.", ["shop"])
RECONCILE_OPEN = Gauge("hooktape_reconcile_oldest_open_window_seconds",
    "How long ago the looked-through part of a shop's changes ends, in the family that is furthest behind. Do: over two intervals, "
    "`hooktape reconcile report --shop` names the reason.", ["shop"])
RECONCILE_THROTTLE = Gauge("hooktape_reconcile_throttle_available_ratio",
    "What Shopify's bucket of points held at its last answer, as a part of its size. Do: near 0 for long, see what else asks the API.",
    ["shop"])
RECONCILE_BULK = Gauge("hooktape_reconcile_bulk_running",
    "Bulk operations begun and not read to their end. Do: one that stays for over 6 h has failed; see the reconciler's log.")
ADMIN_TOKENS = Counter("hooktape_admin_tokens_total",
    "Admin API tokens by where they come from (setting, file, app, grant): got, refused by a 401, or failed to be had. Do: failed or "
    "refused again and again, `hooktape doctor` has the reason.", ["source", "outcome"])
RECONCILE_COST = Counter("hooktape_reconcile_cost_points_total",
    "Admin API cost points spent, as Shopify counted them.")

DOCTOR_FINDING = Gauge("hooktape_doctor_finding",
    "1 while something is wrong with a shop's webhook subscriptions. Do: `hooktape doctor --shop` says what, and how to mend it.",
    ["shop", "problem", "subject", "severity"])
DOCTOR_LOOKED = Gauge("hooktape_doctor_last_look_timestamp_seconds",
    "When the doctor last looked at a shop's subscriptions. Do: when old, see that `hooktape reconcile` runs.", ["shop"])


def serve(port: int, host: str = "127.0.0.1") -> int:
    """Answers `/metrics` (any path) on `port` in a thread; 0 picks a free one. Returns the port. Raises OSError."""
    server, _ = start_http_server(port, addr=host)
    return int(server.server_port)


def exposition() -> tuple[bytes, str]:
    """The body and content type of `/metrics`, for processes that serve HTTP anyway.

    With PROMETHEUS_MULTIPROC_DIR set (`hooktape ingest --workers`), the sum over all processes that count there.
    """
    registry = REGISTRY
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST
