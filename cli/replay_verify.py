"""`hooktape replay verify`: whether a replay recovered what it replayed."""

import asyncio
from typing import Any

import click

from hooktape.cli import common
from hooktape.cli.operating import Progress, opened
from hooktape.errors import Incomplete, NothingMatched
from hooktape.ledger.jobs import Job
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.access.access import source_of
from hooktape.reconciler.present import Shops
from hooktape.replayer import control
from hooktape.replayer.catalogue import Cataloguer
from hooktape.replayer.proof import Finding, Proof, Verdict, prove
from hooktape.settings import Settings

_WORDS = {Verdict.AGREES: "agree with Shopify", Verdict.DIFFERS: "differ", Verdict.GONE: "gone", Verdict.NOT_CHECKABLE: "not checkable"}


@click.command("verify")
@click.argument("plan")
@click.option("--show", default=50, show_default=True, help="Resources that are listed.")
@common.json_option
def command(plan: str, show: int, as_json: bool) -> None:
    """Ask the Admin API for each resource of a job, and say what differs from the last version that the group handled.

    Replayed isn't recovered: this tells. Exit code 5 when something differs or is gone, or nothing could be checked.

    Example: hooktape replay verify 0199a3
    """
    with opened() as (settings, ledger):
        source_of(settings)
        job = control.find_job(ledger, plan)
        # What came since the job may be what Shopify shows now.
        with Progress() as progress, Cataloguer(settings, ledger) as cataloguer:
            cataloguer.catch_up(progress=lambda done, of: progress.show("reading the tape", done, of))
        with Progress() as progress:
            proof = asyncio.run(_prove(settings, ledger, job, show, progress))
    if not proof.counts:
        raise NothingMatched(f"Job {job.id} has no events.")
    rows = [_row(finding) for finding in proof.findings]
    if as_json:
        common.print_json({"job": job.id, "group": job.group, "recovered": proof.recovered,
                           **{str(verdict): proof.counts[verdict] for verdict in Verdict}, "reasons": dict(proof.reasons),
                           "resources": rows})  # fmt: skip
    else:
        click.echo(sentence(proof))
        if rows:
            click.echo()
            common.print_table(rows, ["shop", "resource", "verdict", "handled", "present", "why"], "")
    if not proof.recovered:
        raise Incomplete(f"Job {job.id} isn't proved to have recovered everything: {sentence(proof)}.")


async def _prove(settings: Settings, ledger: Ledger, job: Job, keep: int, progress: Progress) -> Proof:
    async with Shops(settings) as shops:
        return await prove(ledger, job, shops, keep=keep, progress=lambda done: progress.show("asking Shopify", done))


def sentence(proof: Proof) -> str:
    """`929 agree with Shopify · 2 differ · 1 gone · 3 not checkable`."""
    return " · ".join(f"{proof.counts[verdict]:,} {_WORDS[verdict]}" for verdict in Verdict)


def _row(finding: Finding) -> dict[str, Any]:
    return {"shop": finding.shop, "resource": finding.resource or None, "verdict": finding.verdict.value.replace("_", " "),
            "handled": None if finding.handled is None else common.when(finding.handled),
            "present": None if finding.present is None else common.when(finding.present), "why": finding.why}  # fmt: skip
