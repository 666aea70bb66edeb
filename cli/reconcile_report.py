"""`hooktape reconcile report`: what the reconciler's kept passes found, a row for each shop and family, and a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

import click

from hooktape import times
from hooktape.cli import common
from hooktape.errors import Incomplete, NothingMatched
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.reckoning import Row, alone, sentence, span, together
from hooktape.reconciler.families import FAMILIES
from hooktape.reconciler.schedule import SCHEDULED
from hooktape.reconciler.unverifiable import REASONS
from hooktape.schemas import topics as shopify

_COLUMNS = ("shop", "family", "from", "to", "count", "compared", "covered", "late", "pending", "recorded", "gone", "untold", "deleted",
            "unverifiable", "points", "missing", "coverage", "state", "ended")  # fmt: skip


@click.command("report")
@click.option("--shop", "shops", multiple=True, help="Only this shop; repeatable.")
@click.option("--family", "families", multiple=True, type=click.Choice(list(FAMILIES)), help="Only this family; repeatable.")
@click.option("--pass", "kind", type=click.Choice([*map(str, SCHEDULED)]),
              help="The last pass of this kind by itself; else all that are kept, together.")  # fmt: skip
@click.option("--since", help="Only passes that ended since (ISO 8601, or 2h, 3d ago).")
@common.json_option
def command(shops: tuple[str, ...], families: tuple[str, ...], kind: str | None, since: str | None, as_json: bool) -> None:
    """What the reconciler has found: a row for each shop and family, then what can't be checked, then one sentence that adds up.

    Every change is counted once, however many passes looked at it. The ledger keeps the last 48 passes of each kind: with the standard
    intervals four hours of fast ones, and a look-back's report is one of 26 hours.

    \b
    Examples:
      hooktape reconcile report
      hooktape reconcile report --pass lookback --shop acme.myshopify.com
      hooktape reconcile report --since 1h --json

    Exit code 5: a family's last pass left its window open, or deletions are held; 3: no pass is kept.
    """
    settings = common.load()
    begin = None if since is None else times.parse_time(since).timestamp()
    with Ledger.open(settings.ledger_url) as ledger:
        rows = []
        for pair in ledger.reports.pairs([shop.lower() for shop in shops], families):
            kept = ledger.reports.of(*pair, kind=kind, since=begin, last=1 if kind else None)
            if (row := alone(kept[-1]) if kind and kept else together(kept)) is not None:
                rows.append(row)
    if not rows:
        raise NothingMatched("No pass of the reconciler is kept for that: `hooktape reconcile --once` makes one.")
    unverifiable = _unverifiable(rows, [] if families else shopify.expand(settings.topics))
    said = sentence((row.tally for row in rows), unverifiable)
    if as_json:
        common.print_json({"rows": [row.as_json() for row in rows], "unverifiable": unverifiable, "summary": said})
    else:
        common.print_table([_cells(row) for row in rows], _COLUMNS, "")
        _print_reasons(rows, unverifiable)
        click.echo(said)
    _judge(rows)


def _unverifiable(rows: Sequence[Row], wanted: Sequence[str]) -> dict[str, str]:
    """Topic → why it can't be checked: of the rows' families, and of the wanted topics that belong to none."""
    ours = {topic.split("/")[0] for topic in wanted} & FAMILIES.keys()
    found = {topic: REASONS[topic] for topic in wanted if topic in REASONS and topic.split("/")[0] not in ours}
    for row in rows:
        found |= row.unverifiable
    return dict(sorted(found.items()))


def _cells(row: Row) -> dict[str, Any]:
    tally, window = row.tally, row.window
    gap = row.first_missing if row.missing < 2 else f"{row.missing:,}: {row.first_missing} … {row.last_missing}"
    coverage = None if row.coverage is None else f"{row.coverage:.2%}" + (f" {row.direction}" if row.direction else "")
    late = f"mean {span(tally.late_us_total // tally.late)}, max {span(tally.late_us_max)}" if tally.late else ""
    return {
        "shop": row.shop, "family": row.family, "from": None if window is None else common.when(window[0]),
        "to": None if window is None else common.when(window[1]),
        "count": None if row.counted is None else f"{row.counted:,}" if row.exact else f"~{row.counted:,}",
        "compared": f"{tally.shown:,}", "covered": f"{tally.covered:,}", "late": _with(tally.late, late),
        "pending": _with(tally.pending, f"{tally.suspected:,} suspected" if tally.suspected else ""),
        "recorded": f"{tally.lacked:,}", "gone": f"{tally.gone:,}", "untold": f"{tally.untold:,}",
        "deleted": _with(tally.deleted, f"{tally.held:,} held" if tally.held else ""), "unverifiable": len(row.unverifiable),
        "points": f"{row.points:,}", "missing": gap, "coverage": coverage, "state": row.state,
        "ended": common.when(round(row.ended_at) * 1_000_000),
    }  # fmt: skip


def _with(number: int, more: str) -> str:
    return f"{number:,} ({more})" if more else f"{number:,}"


def _print_reasons(rows: Sequence[Row], unverifiable: Mapping[str, str]) -> None:
    by_reason: dict[str, list[str]] = {}
    for topic, reason in unverifiable.items():
        by_reason.setdefault(reason, []).append(topic)
    lines = [f"can't be checked: {', '.join(topics)}: {reason}" for reason, topics in by_reason.items()]
    lines += [f"window open: {row.shop} {row.family}: {row.error or 'the counts do not agree yet'}"
              for row in rows if row.state != "complete"]  # fmt: skip
    click.echo("\n".join(["", *map(common.clean, lines), ""] if lines else [""]))


def _judge(rows: Sequence[Row]) -> None:
    """Raises what the exit code comes from."""
    still_open = [f"{row.shop} {row.family} ({row.state})" for row in rows if row.state != "complete"]
    held = [f"{row.shop} {row.family} ({row.tally.held:,})" for row in rows if row.tally.held]
    said = [*([f"windows stay open: {', '.join(still_open)}"] if still_open else []),
            *([f"deletions wait for `hooktape reconcile --once --accept-deletes`: {', '.join(held)}"] if held else [])]  # fmt: skip
    if said:
        raise Incomplete("; ".join(said))
