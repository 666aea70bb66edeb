"""`hooktape doctor`: does Shopify still send what the app wants, to the right address, in a form that can be used?"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import asdict
from itertools import groupby
from typing import Any

import click

from hooktape.cli import asking, common
from hooktape.errors import Incomplete, SettingsError
from hooktape.ledger.doctor import Found
from hooktape.ledger.ledger import Ledger
from hooktape.reconciler.doctor.facts import Severity
from hooktape.reconciler.doctor.visiting import Doctor, Look
from hooktape.reconciler.service import Reconciler
from hooktape.settings import Settings
from hooktape.times import iso


@click.command("doctor")
@click.option("--shop", "shops", multiple=True, help="Only this shop; repeatable. Default: all that have a token.")
@click.option("--repair", is_flag=True, help="Make the subscriptions that are declared and missing (HOOKTAPE_SUBSCRIBED_BY=api).")
@common.json_option
def command(shops: tuple[str, ...], repair: bool, as_json: bool) -> None:
    """Look at shops' webhook subscriptions, scopes, API version and status, and at what has come of them.

    `hooktape reconcile` does so every HOOKTAPE_DOCTOR_INTERVAL. What the Admin API doesn't show, as the subscriptions of the app's
    configuration file, is judged by what is on the tape and what the reconciler misses. Nothing is ever deleted.

    \b
    Examples:
      hooktape doctor
      hooktape doctor --shop shop.myshopify.com --json
      hooktape doctor --repair

    Exit code 5: something is wrong by which webhooks are lost now.
    """
    settings = common.load()
    chosen = asking.shops(settings, shops)
    if repair:
        settings.require("webhook_url", "a subscription is made for that address")
    if repair and settings.subscribed_by != "api":
        raise SettingsError("--repair makes subscriptions by the API, and HOOKTAPE_SUBSCRIBED_BY is app: those of the app's configuration "
                            "are made by `shopify app deploy`. Set it to api if this app subscribes by the API.")  # fmt: skip
    looks = asyncio.run(_looks(settings, chosen, repair))
    if as_json:
        common.print_json({"shops": [_as_json(look) for look in looks], "summary": sentence(looks)})
    else:
        for look in looks:
            _print(look)
        click.echo(sentence(looks))
    if ill := [look.shop for look in looks if look.ill]:
        raise Incomplete(f"webhooks of {', '.join(ill)} are lost, or can't be told to come: see the errors above")


async def _looks(settings: Settings, shops: list[str], repair: bool) -> list[Look]:
    with Ledger.open(settings.ledger_url) as ledger:
        async with AsyncExitStack() as stack:
            look_back = (await stack.enter_async_context(Reconciler(settings, ledger))).look_back if repair else None
            doctor = await stack.enter_async_context(Doctor(settings, ledger, look_back=look_back, repair=repair))
            found = [await doctor.look(shop, wait=True) for shop in shops]
    if busy := [shop for shop, look in zip(shops, found, strict=True) if look is None]:
        raise Incomplete(f"another doctor has looked at {', '.join(busy)} for minutes: try again")
    return [look for look in found if look is not None]


def sentence(looks: list[Look]) -> str:
    """One line that counts what was found."""
    counts = {kind: sum(one.severity == kind for look in looks for one in look.findings) for kind in Severity}
    made = sum(len(look.made) for look in looks)
    parts = [f"{number} {kind}{'' if number == 1 else 's'}" for kind, number in counts.items()]
    text = f"{len(looks)} shop{'' if len(looks) == 1 else 's'}: {', '.join(parts)}"
    return f"{text}; {made} subscription{'' if made == 1 else 's'} made." if made else f"{text}."


def _as_json(look: Look) -> dict[str, Any]:
    findings = [{**asdict(one), "first_seen": iso(round(one.first_seen * 1e6)), "last_seen": iso(round(one.last_seen * 1e6))}
                for one in look.findings]  # fmt: skip
    return {"shop": look.shop, "made": list(look.made), "findings": findings}


def _print(look: Look) -> None:
    """Each thing that is wrong once, however many topics it concerns."""
    click.echo(look.shop)

    def same(one: Found) -> tuple[str, str, str, str]:
        return one.severity, one.problem, one.what, one.remedy

    for (severity, problem, what, remedy), group in groupby(sorted(look.findings, key=lambda one: (_rank(one), *same(one))), key=same):
        alike = list(group)
        subjects, since = ", ".join(common.clean(one.subject) for one in alike), iso(round(min(one.first_seen for one in alike) * 1e6))
        click.echo(f"  {severity:<8}{problem}: {subjects}\n          {common.clean(what)}")
        click.echo(f"          since {since}; do: {common.clean(remedy)}")
    for topic in look.made:
        click.echo(f"  {'made':<8}{topic}\n          its subscription was missing")
    if not look.findings:
        click.echo("  nothing is wrong")


def _rank(one: Found) -> int:
    return list(Severity).index(Severity(one.severity))
