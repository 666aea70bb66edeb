"""`hooktape breaker`: the topics that are held since most of their events fail with one cause, and an operator's word on them."""

import time
from typing import Any

import click

from hooktape.cli import common
from hooktape.cli.operating import moment, opened, who
from hooktape.errors import NothingMatched, SettingsError, UsageError
from hooktape.ledger.breakers import Status
from hooktape.schemas import topics as shopify
from hooktape.tape.names import check_group
from hooktape.times import format_duration, parse_duration

reason_option = click.option("--reason", required=True, help="Why: kept in the audit trail.")
topic_argument = click.argument("topic")


def _group(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    return None if value is None else check_group(value)


group_option = click.option("--group", required=True, callback=_group, help="The consumer group.")


@click.group()
def command() -> None:
    """Flood breakers. When most of a topic's events fail with one cause, its workers hold the topic and try one event now and then,
    instead of emptying the tape into the dead letters. An operator's word goes before theirs.

    Example: hooktape breaker list
    """


@command.command("list")
@click.option("--group", callback=_group, help="The consumer group; every one by default.")
@common.json_option
def list_command(group: str | None, as_json: bool) -> None:
    """What is held, since when, with which causes; and what operators have said.

    Example: hooktape breaker list --group fulfilment
    """
    now = time.time()
    with opened() as (_, ledger):
        found = ledger.breakers.list(now, group)
    if as_json:
        common.print_json([_row(status, now) for status in found])
        return
    rows = [_line(status, now) for status in found]
    common.print_table(rows, ["group", "topic", "state", "since", "workers", "failures", "shops", "error", "message"],
                       "no topic is held, and no operator has said anything")  # fmt: skip


@command.command("open")
@group_option
@topic_argument
@reason_option
@common.json_option
def open_command(group: str, topic: str, reason: str, as_json: bool) -> None:
    """Hold a topic: no event of it starts, until `auto` or `close`. What arrives waits on the tape.

    Example: hooktape breaker open --group fulfilment orders/create --reason "the warehouse moves house"
    """
    _set(group, topic, "open", None, reason, as_json)


@command.command("close")
@group_option
@topic_argument
@reason_option
@click.option("--for", "lasting", default="1h", show_default=True, help="For so long; then the breaker decides again.")
@common.json_option
def close_command(group: str, topic: str, reason: str, lasting: str, as_json: bool) -> None:
    """Let a topic through for a time, whatever fails: failures go to the retry topics and the dead letters.

    Example: hooktape breaker close --group fulfilment orders/create --for 30m --reason "test orders, all to be rejected"
    """
    seconds = parse_duration(lasting)
    if not seconds:
        raise UsageError("--for must be above zero; `hooktape breaker auto` takes an operator's word back.")
    _set(group, topic, "closed", time.time() + seconds, reason, as_json)


@command.command("auto")
@group_option
@topic_argument
@reason_option
@common.json_option
def auto_command(group: str, topic: str, reason: str, as_json: bool) -> None:
    """Take an operator's word back: the breaker decides again.

    Example: hooktape breaker auto --group fulfilment orders/create --reason "the warehouse is there"
    """
    _set(group, topic, None, None, reason, as_json)


def in_words(status: Status, now: float) -> str:
    """What is the matter with a topic, in a line."""
    word = status.override
    if word is not None:
        until = "" if word.until is None else f" for {format_duration(round(word.until - now) or 1)}"
        return f"{'held' if word.state == 'open' else 'let through'}{until} by {word.who}: {word.reason}"
    probe = "a probe runs" if status.probe_at is None else f"a probe in {max(0.0, status.probe_at - now):.0f}s"
    cause = f"{status.causes[0].failures:,} failed with {status.causes[0].error_type}" if status.causes else ""
    return f"{cause}, for {now - (status.since or now):.0f}s; {probe}"


def _set(group: str, topic: str, state: str | None, until: float | None, reason: str, as_json: bool) -> None:
    if not reason.strip():
        raise UsageError("A --reason is needed: it's kept in the audit trail.")
    topic = _known(topic)
    with opened() as (_, ledger):
        if not ledger.breakers.set_override(group, topic, state, until, who=who(), reason=reason, now=time.time()):
            raise NothingMatched(f"No operator's word on {topic} is in force in group {group}: its breaker decides already.")
    if as_json:
        common.print_json({"group": group, "topic": topic, "override": state, "until": moment(until)})
    else:
        said = {"open": "is held", "closed": f"is let through until {moment(until)}", None: "is its breaker's again"}[state]
        click.echo(f"{topic} {said} in group {group}; its workers obey within seconds")


def _known(topic: str) -> str:
    """A topic as handlers name it. One that isn't in the table may be newer than it, but must look like one."""
    try:
        [found] = shopify.expand([topic])
    except (SettingsError, ValueError):
        if topic.count("/") == 1 and "*" not in topic and all(topic.split("/")) and topic.isprintable():
            return topic
        raise UsageError(f"{topic!r} is no Shopify topic. Write one, as in orders/create.") from None
    return found


def _line(status: Status, now: float) -> dict[str, Any]:
    cause = status.causes[0] if status.causes else None
    word = status.override
    state = "open" if status.open else "-"
    if word is not None:
        until = "" if word.until is None else f" until {moment(word.until)}"
        state = f"{'held' if word.state == 'open' else 'let through'} by {word.who}{until}"
    message = cause.error_message.splitlines()[0] if cause and cause.error_message else (word.reason if word else "")
    return {"group": status.group, "topic": status.topic, "state": state, "since": moment(status.since or (word.at if word else now)),
            "workers": status.workers, "failures": cause.failures if cause else 0, "shops": cause.shops if cause else 0,
            "error": cause.error_type if cause else None, "message": message[:80]}  # fmt: skip


def _row(status: Status, now: float) -> dict[str, Any]:
    word = status.override
    return {
        "group": status.group, "topic": status.topic, "open": status.open, "workers": status.workers, "since": moment(status.since),
        "next_probe": moment(status.probe_at), "in_words": in_words(status, now),
        "causes": [{"error_group": c.error_group, "error_type": c.error_type, "error_message": c.error_message, "failures": c.failures,
                    "shops": c.shops} for c in status.causes],
        "override": None if word is None else {"state": word.state, "until": moment(word.until), "who": word.who, "reason": word.reason,
                                               "at": moment(word.at)},
    }  # fmt: skip
