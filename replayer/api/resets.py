"""Offset reset: a preview, and the same again with the number that it showed."""

import time
from typing import Annotated, Literal

from pydantic import Field

from hooktape.errors import UsageError
from hooktape.replayer import reset
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask
from hooktape.replayer.api.letters import GroupPath
from hooktape.replayer.api.replays import confirmed
from hooktape.replayer.reset import Target, To
from hooktape.times import micros, parse_duration, parse_time


class Preview(models.Strict):
    """Where a group's offsets are to go."""

    topics: Annotated[list[models.Text] | None, Field(min_length=1, max_length=500, description="Shopify's names or Kafka's; null: every "
                                                      "log topic that the group has committed.")] = None  # fmt: skip
    to: Annotated[Literal["earliest", "latest", "datetime", "duration", "offset", "shift"],
                  Field(description="What `value` is: nothing, nothing, a time, a time ago as in 2h, an offset, or a number of records "
                        "(negative: back).")]  # fmt: skip
    value: Annotated[models.Text | None, Field(description="See `to`.", examples=["2h"])] = None
    count_done: Annotated[bool, Field(description="Read the window to count what is done already.")] = True


class Execute(Preview):
    """The same, to be done."""

    reason: models.Reason
    reprocess: Annotated[bool, Field(description="Whether what has succeeded runs again, or is skipped by the ledger.")] = True
    confirm: models.Confirm = None


def preview(ask: Ask, group: GroupPath, body: Preview) -> models.Reset:
    return models.Reset.of(_planned(ask, group, body), body.count_done, False, None)


def execute(ask: Ask, group: GroupPath, body: Execute) -> models.Reset:
    reset.refuse_live(ask.settings, group)
    found = _planned(ask, group, body)
    again, skipped = sum(m.again for m in found.moves), sum(m.skipped for m in found.moves)
    confirmed(body.confirm, again + skipped, f"Group {group} sees {again:,} events again, and {skipped:,} are skipped")
    with ask.ledger() as ledger:
        generation = reset.execute(ask.settings, ledger, found, who=ask.by.name, reason=body.reason, now=ask.now, reprocess=body.reprocess)
    return models.Reset.of(found, body.count_done, True, generation)


def _planned(ask: Ask, group: str, body: Preview) -> reset.Reset:
    target = target_of(body.to, body.value, time.time())
    with ask.ledger() as ledger:
        return reset.plan(ask.settings, ledger, group, body.topics, target, count_done=body.count_done)


def target_of(to: str, value: str | None, now: float) -> Target:
    """Where to, from a request's words. Raises UsageError. Pure."""
    if (value is None) != (to in ("earliest", "latest")):
        raise UsageError(f"`to` {to} takes {'no' if value else 'a'} `value`.")
    match to:
        case "datetime":
            return Target(To.TIME, micros(parse_time(value or "")) // 1000)
        case "duration":
            return Target(To.TIME, max(0, int((now - min(parse_duration(value or ""), now)) * 1000)))
        case "offset" | "shift":
            try:
                number = int(value or "")
            except ValueError:
                raise UsageError(f"{value!r} isn't a whole number.") from None
            if abs(number) >= 2**63:
                raise UsageError(f"{value} is beyond every offset.")
            return Target(To(to), number)
    return Target(To(to))
