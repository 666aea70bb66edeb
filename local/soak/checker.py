"""The verdict on a history: every rule, what breaks it, and the figures. Pure: the same history gets the same verdict."""

from dataclasses import dataclass

from hooktape.local.soak import effect_rules, outcome_rules, progress_rules, reconcile_rules, replay_rules, tape_rules
from hooktape.local.soak.history import History
from hooktape.local.soak.view import View, Violation

_RULES = (*tape_rules.RULES, *outcome_rules.RULES, *effect_rules.RULES, *progress_rules.RULES, *replay_rules.RULES,
          reconcile_rules.missed)


@dataclass(frozen=True, slots=True)
class Verdict:
    """`counts` are the figures of the report; `clean` when nothing breaks a rule."""

    counts: dict[str, int]
    violations: tuple[Violation, ...]
    delays: tuple[float, ...] = ()
    """Seconds from a change to the synthetic event that tells of it."""

    @property
    def clean(self) -> bool:
        """Whether every rule holds."""
        return not self.violations


def judge(history: History) -> Verdict:
    """Judges a history by all rules."""
    view = View(history)
    repeated, reconciled = effect_rules.Repeats(), reconcile_rules.Reconciled()
    violations = [*effect_rules.repeats(view, repeated), *reconcile_rules.synthetic(view, reconciled)]
    for rule in _RULES:
        violations += rule(view)

    def broken(*rules: str) -> int:
        return sum(violation.rule in rules for violation in violations)

    handed = [(record.generation, record.wid) for record in history.records if record.kind == "replay"]
    acked = sum(webhook.acked_at is not None for webhook in view.webhooks.values())
    counts = {
        "webhooks": len(view.webhooks),
        "posts": len(history.posts),
        "acknowledged": acked,
        "recovered": sum(w.acked_at is None and wid in view.copies for wid, w in view.webhooks.items()),
        "on_tape": len(view.copies),
        "copies": len(view.logs) - len(view.copies),
        "attempts": len(history.attempts),
        "effects": len(view.effects),
        "retried": len({(group, wid) for kind, group, wid in view.letters if kind == "retry"}),
        "dead": sum(state == "dead" for state in view.states.values()),
        "superseded": sum(state == "stale" for state in view.states.values()),
        "lost": broken("lost-ack", "unhandled", "phantom-success", "dead-but-nowhere", "superseded-by-nothing"),
        "transactional_effects": sum(effect.handler.transactional for effect in view.effects),
        "transactional_twice": repeated.transactional,
        "unexcused_repeats": repeated.unexcused,
        "excused_repeats": repeated.excused,
        "out_of_order": broken("out-of-order"),
        "overlap": broken("overlap"),
        "replays": len(view.replays),
        "replayed": sum(item.decision == "run" for item in history.items),
        "replayed_succeeded": sum(item.outcome == "succeeded" for item in history.items),
        "replayed_failed_again": sum(item.outcome == "failed_again" for item in history.items),
        "replayed_skipped": sum(item.decision == "run" and item.outcome not in ("", "succeeded", "failed_again") for item in history.items),
        "replayed_open": sum(item.decision == "run" and not item.outcome for item in history.items),
        "not_replayed": sum(item.decision != "run" for item in history.items),
        "handed_over_again": len(handed) - len(set(handed)),
        "commands": len(history.commands),
        "account_broken": broken("account", "wrong-outcome", "ran-a-skip", "effect-outside-plan", "handed-over-outside-plan"),
        "committed_past_unfinished": broken("committed-past-unfinished"),
        "changes": len(history.changes),
        "dropped": sum(change.fate == "dropped" for change in history.changes),
        "synthetic": reconciled.synthetic,
        "missed": broken("missed", "missed-step"),
        "false": reconciled.false,
        "recorded_twice": reconciled.twice,
        "late_after": reconciled.late_after,
        "crossed": reconciled.crossed,
        "violations": len(violations),
    }
    return Verdict(counts, tuple(violations), tuple(reconciled.delays))
