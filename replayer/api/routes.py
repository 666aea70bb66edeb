"""The table of the API: every path, what answers it, and which role it takes. Nothing is routed elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hooktape.ledger.tokens import Role
from hooktape.replayer.api import events, letters, models, operations, progress, proving, reconciled, replays, resets

PREFIX = "/api/v1"
_READ, _OPERATE = Role.READ, Role.OPERATE


@dataclass(frozen=True, slots=True)
class Route:
    """One row. `problems` are those beyond what any route may answer; `media` is what it streams, where that isn't JSON."""

    method: str
    path: str
    function: Callable[..., Any]
    role: Role
    summary: str
    problems: tuple[str, ...] = ()
    model: Any = None
    status: int = 200
    also: dict[int | str, dict[str, Any]] = field(default_factory=dict)
    media: str = ""


_LATER: dict[int | str, dict[str, Any]] = {202: {
    "model": models.Job, "headers": {"Location": {"schema": {"type": "string"}}},
    "description": "It takes longer: the job is being planned; its progress says how far it is.",
}}  # fmt: skip
_KAFKA = ("kafka-unavailable",)
_FOUND = ("not-found", "nothing-matched")
_ACT = ("not-allowed", "confirmation")

ROUTES = (
    Route("GET", "/me", operations.me, _READ, "Who the token says you are", model=operations.Me),
    Route("GET", "/events", events.list_events, _READ, "Search the tape", _KAFKA, models.Events),
    Route("GET", "/events/count", events.count_events, _READ, "Count what a search finds", _KAFKA, models.Count),
    Route("GET", "/events/find", events.find_events, _READ, "Find events by what you have in hand", _KAFKA, models.Finds),
    Route("GET", "/events/{webhook_id}", events.show_event, _READ, "An event and its history", (*_KAFKA, *_FOUND), models.EventHistory),
    Route("GET", "/events/{webhook_id}/body", events.event_body, _OPERATE, "An event's body and headers; audited", (*_KAFKA, *_FOUND),
          models.Body),
    Route("POST", "/replays", replays.plan_new, _OPERATE, "Plan a replay or a backfill; nothing runs yet",
          (*_KAFKA, *_FOUND, "not-allowed"), models.Plan, 201, _LATER),
    Route("GET", "/replays", replays.list_replays, _READ, "Plans and runs, the latest first", model=models.Jobs),
    Route("GET", "/replays/{job_id}", replays.show_replay, _READ, "A job and its account", _FOUND, models.JobWithAccount),
    Route("GET", "/replays/{job_id}/plan", replays.show_plan, _READ, "What a run would do, as it was planned", _FOUND, models.Plan),
    Route("GET", "/replays/{job_id}/drift", replays.show_drift, _READ, "What would be decided differently now", (*_KAFKA, *_FOUND),
          models.Drift),
    Route("GET", "/replays/{job_id}/items", replays.list_items, _READ, "A job's events", _FOUND, models.Items),
    Route("GET", "/replays/{job_id}/export", replays.export_items, _OPERATE, "A job's events as JSON Lines", _FOUND,
          media="application/x-ndjson"),
    Route("GET", "/replays/{job_id}/progress", progress.watch_replay, _READ, "A job's progress as server-sent events, until it ends",
          _FOUND, also={204: {"description": "It has ended, and you have seen it: don't come back."}},
          media="text/event-stream"),
    Route("POST", "/replays/{job_id}/run", replays.run_plan, _OPERATE, "Run a plan", (*_FOUND, *_ACT), models.Job),
    Route("POST", "/replays/{job_id}/verify", proving.verify_replay, _OPERATE,
          "Ask Shopify whether a replay recovered what it handed over; progress and the proof as server-sent events",
          (*_KAFKA, *_FOUND, "not-allowed"), media="text/event-stream"),
    Route("POST", "/replays/{job_id}/pause", replays.pause_run, _OPERATE, "Pause a run", (*_FOUND, *_ACT), models.Job),
    Route("POST", "/replays/{job_id}/resume", replays.resume_run, _OPERATE, "Let a paused run go on", (*_FOUND, *_ACT), models.Job),
    Route("POST", "/replays/{job_id}/cancel", replays.cancel_run, _OPERATE, "End a run, or throw a plan away", (*_FOUND, *_ACT),
          models.Job),
    Route("GET", "/status", operations.show_status, _READ, "Everything at a glance: what comes in, who is behind, what failed", _KAFKA,
          operations.Status),
    Route("GET", "/groups", operations.list_groups, _READ, "Lag, failures and dead letters of every group", _KAFKA, operations.Groups),
    Route("GET", "/groups/{group}", operations.show_group, _READ, "The figures of one group", (*_KAFKA, *_FOUND), operations.GroupFigures),
    Route("GET", "/groups/{group}/dead-letters", letters.list_letters, _READ, "Dead events, the latest first", (*_KAFKA, *_FOUND),
          letters.Letters),
    Route("GET", "/groups/{group}/dead-letters/causes", letters.list_causes, _READ, "Dead events by cause", (*_KAFKA, *_FOUND),
          letters.Causes),
    Route("GET", "/groups/{group}/dead-letters/causes/{error_group}", letters.show_cause, _READ,
          "A cause in full: its stack, and whom it hit most", (*_KAFKA, *_FOUND), letters.CauseInFull),
    Route("GET", "/groups/{group}/dead-letters/poison", letters.list_poison, _READ, "The records that hold no event", (*_KAFKA, *_FOUND),
          letters.Poisons),
    Route("GET", "/groups/{group}/dead-letters/poison/body", letters.poison_body, _OPERATE, "Such a record as it lies; audited",
          (*_KAFKA, *_FOUND), letters.RawBody),
    Route("GET", "/groups/{group}/dead-letters/export", letters.export, _OPERATE, "Dead events with their bodies as JSON Lines; audited",
          (*_KAFKA, *_FOUND), media="application/x-ndjson"),
    Route("POST", "/groups/{group}/dead-letters/redrive", letters.redrive, _OPERATE, "Plan a redrive; run it as any replay",
          (*_KAFKA, *_FOUND, "not-allowed"), models.Plan, 201, _LATER),
    Route("POST", "/groups/{group}/dead-letters/discard", letters.discard, _OPERATE, "Give dead events up", (*_KAFKA, *_FOUND, *_ACT),
          letters.Changed),
    Route("POST", "/groups/{group}/dead-letters/restore", letters.restore, _OPERATE, "Take a discard back", (*_KAFKA, *_FOUND, *_ACT),
          letters.Changed),
    Route("GET", "/groups/{group}/dead-letters/{webhook_id}", letters.show_letter, _READ, "A dead letter, its stack and history",
          (*_KAFKA, *_FOUND), letters.LetterHistory),
    Route("GET", "/groups/{group}/dead-letters/{webhook_id}/body", letters.letter_body, _OPERATE,
          "A dead letter's body and headers; audited", (*_KAFKA, *_FOUND), models.Body),
    Route("POST", "/groups/{group}/resets/preview", resets.preview, _READ, "What an offset reset would do", (*_KAFKA, *_FOUND),
          resets.Reset),
    Route("POST", "/groups/{group}/resets", resets.execute, _OPERATE, "Reset a group's offsets", (*_KAFKA, *_FOUND, *_ACT), resets.Reset),
    Route("GET", "/groups/{group}/resets", resets.list_resets, _READ, "A group's resets, the latest first", model=resets.SavedResets),
    Route("POST", "/groups/{group}/resets/undo/preview", resets.preview_undo, _READ, "What taking a reset back would do",
          (*_KAFKA, *_FOUND), resets.Reset),
    Route("POST", "/groups/{group}/resets/undo", resets.undo, _OPERATE, "Take a reset back", (*_KAFKA, *_FOUND, *_ACT), resets.Reset),
    Route("GET", "/breakers", operations.list_breakers, _READ, "Topics that are held, and what operators have said",
          model=operations.Breakers),
    Route("POST", "/groups/{group}/breakers", operations.set_breaker, _OPERATE, "Hold a topic, let it through, or leave it to its breaker",
          _FOUND, operations.Breakers),
    Route("GET", "/reconcile/reports", reconciled.list_reports, _READ, "What the reconciler found, by shop and family",
          model=reconciled.Reports),
    Route("GET", "/audit", operations.list_audit, _READ, "Who did what to which, and why; the latest first", model=operations.Deeds),
    Route("GET", "/catalogue", operations.show_catalogue, _READ, "How far the catalogue has read the tape", _KAFKA, operations.Positions),
)  # fmt: skip
