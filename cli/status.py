"""`hooktape status`: one screen, from the broker's offsets and the ledger, so that it's true also when every service is dead."""

import time
from typing import Any

import click

from hooktape.cli import breaker, common
from hooktape.ledger.ledger import Ledger
from hooktape.replayer.figures import RATE_SECONDS, Figures, arrived, figures
from hooktape.times import format_duration


@click.command()
@common.json_option
def command(as_json: bool) -> None:
    """One screen: what comes in, who is behind by how much, what failed, when each shop was last reconciled.

    Example: hooktape status --json
    """
    settings = common.load()
    settings.require("kafka", "the offsets are asked of it")
    now = time.time()
    with Ledger.open(settings.ledger_url) as ledger:
        found = figures(settings, ledger, now)
        screen = summary(found, arrived(settings, now - RATE_SECONDS), ledger.reconcile.last_success(), now)
    if as_json:
        common.print_json(screen)
        return
    click.echo(f"tape       {screen['arrived']:,} events in the last {format_duration(RATE_SECONDS)} ({screen['rate']:.1f}/s); "
               f"the catalogue is {screen['catalogue_lag']:,} behind")  # fmt: skip
    common.print_table(screen["groups"], ["group", "state", "workers", "topic", "behind", "oldest", "waiting", "dead"],
                       "groups     none yet: `hooktape consume` makes one")  # fmt: skip
    for row in screen["held"]:
        click.echo(f"held       {row['group']} {common.clean(row['topic'])}: {common.clean(row['state'])}")
    for row in screen["in_order"]:
        late = f", the oldest {format_duration(row['overdue'])} overdue" if row["overdue"] else ""
        click.echo(f"waiting    {row['group']}: {row['events']:,} events of {row['resources']:,} resources, in order behind a retry{late}")
    for row in screen["reconciled"]:
        click.echo(f"reconciled {common.clean(row['shop'])} {row['ago']} ago")
    if not screen["reconciled"]:
        click.echo("reconciled never: `hooktape reconcile --once`")
    if any(row["open"] for row in screen["held"]):
        click.echo("\nfor the held: `hooktape breaker list --group …` says why; they go on by themselves once a probe succeeds", err=True)
    if any(row["dead"] for row in screen["groups"]):
        click.echo("\nfor the dead: `hooktape dlq groups --group …` says why, `hooktape dlq redrive` sends them again", err=True)


def summary(found: Figures, number: int, reconciled: dict[str, float], now: float) -> dict[str, Any]:
    """The screen as data: a row for each group and topic that has anything to say; pure."""
    rows = []
    for group in found.groups:
        topics = sorted({*group.lag, *group.waiting, *group.dead})
        busy = [t for t in topics if group.waiting.get(t) or group.dead.get(t) or (t in group.lag and group.lag[t].events)]
        for topic in busy or ["all"]:
            lag = group.lag.get(topic)
            rows.append({
                "group": group.name, "state": group.state, "workers": group.members, "topic": topic,
                "behind": lag.events if lag else 0, "oldest": f"{lag.seconds:.0f}s" if lag else "0s",
                "waiting": group.waiting.get(topic, 0), "dead": group.dead.get(topic, 0),
            })  # fmt: skip
    ages = [{"shop": shop, "ago": f"{max(0.0, now - at):.0f}s", "at": at} for shop, at in sorted(reconciled.items())]
    held = [{"group": status.group, "topic": status.topic, "open": status.open, "state": breaker.in_words(status, now)}
            for group in found.groups for status in group.held]  # fmt: skip
    return {"arrived": number, "rate": number / RATE_SECONDS, "catalogue_lag": found.catalogue_lag, "groups": rows, "held": held,
            "in_order": [{"group": group.name, "events": group.in_order.events, "resources": group.in_order.resources,
                          "overdue": round(group.in_order.overdue(now))} for group in found.groups if group.in_order.events],
            "reconciled": ages}  # fmt: skip
