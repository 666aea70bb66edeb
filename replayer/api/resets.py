"""Offset reset: a preview, and the same again with the number that it showed; those that were done, and taking one back."""

from datetime import datetime
from typing import Annotated, Literal, Self

from fastapi import Query
from pydantic import BaseModel, Field

from hooktape.errors import UsageError
from hooktape.ledger import resets
from hooktape.ledger.ledger import Ledger
from hooktape.replayer import reset
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask
from hooktape.replayer.api.letters import GroupPath
from hooktape.replayer.api.replays import confirmed
from hooktape.replayer.offsets import Target, To
from hooktape.times import from_micros, micros, parse_duration, parse_time

_NOTHING = ("earliest", "latest", "current", "places")


class Place(models.Strict):
    """A partition of the tape, and where its offset goes."""

    topic: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,249}$", description="Kafka's name.")]
    partition: Annotated[int, Field(ge=0, lt=2**31)]
    offset: Annotated[int, Field(ge=0, lt=2**63)]


class Preview(models.Strict):
    """Where a group's offsets are to go."""

    topics: Annotated[list[models.Text] | None, Field(min_length=1, max_length=500, description="Shopify's names or Kafka's; with :0,2 "
                                                      "only these partitions; null: what the group has committed.")] = None  # fmt: skip
    to: Annotated[Literal["earliest", "latest", "current", "datetime", "duration", "offset", "shift", "places"],
                  Field(description="Says what `value` is: of datetime a time, of duration a time ago as in 2h, of offset an offset, of "
                        "shift a number of records (negative: back), and nothing of the others.")]  # fmt: skip
    value: Annotated[models.Text | None, Field(description="See `to`.", examples=["2h"])] = None
    places: Annotated[list[Place] | None, Field(min_length=1, max_length=10_000, description="With `to` places.")] = None
    reprocess: Annotated[bool, Field(description="Whether what was handled in the window runs again, or is skipped by the ledger.")] = False
    count: Annotated[bool, Field(description="Count what has been handled in the window.")] = True


class Execute(Preview):
    """The same, to be done."""

    reason: models.Reason
    confirm: models.Confirm = None


class UndoPreview(models.Strict):
    """Which reset to take back."""

    id: Annotated[models.Text | None, Field(min_length=1, description="As the list has it; null: the latest.")] = None
    count: Annotated[bool, Field(description="Count what has been handled in the window.")] = True


class Undo(UndoPreview):
    """The same, to be done."""

    reason: models.Reason
    confirm: models.Confirm = None


class Foresight(BaseModel):
    """What a reset brings, in records; null where it wasn't counted."""

    again: int = Field(description="Seen again. Each is one of the next five.")
    run: int | None
    finished: int | None = Field(description="Skipped by the ledger, as handled.")
    dead: int | None = Field(description="Skipped by the ledger, as dead letters.")
    in_retry: int | None = Field(description="Run from their retry topic.")
    other: int | None = Field(description="Copies, records that hold no event, and topics without a handler in the group.")
    skipped: int = Field(description="Passed over.")
    never_handled: int | None = Field(description="Of those passed over: never handled, and never will be.")

    @classmethod
    def of(cls, f: reset.Foresight, counted: bool) -> Self:
        parts = {"run": f.run, "finished": f.finished, "dead": f.dead, "in_retry": f.in_retry, "other": f.other, "never_handled": f.never}
        return cls(again=f.again, skipped=f.skipped, **(parts if counted else dict.fromkeys(parts)))


class Move(BaseModel):
    """A partition's offset, from `current` (null: never committed) to `new`."""

    topic: str
    partition: int
    current: int | None
    new: int
    wanted: int = Field(description="What was asked for; the partition may not reach that far.")
    brings: Foresight


class Reset(BaseModel):
    """An offset reset: a preview, unless it was executed."""

    group: str
    executed: bool
    id: str | None = Field(description="Of an executed one: `undo` takes it back.")
    undoes: str | None
    reprocess: bool = Field(description="Whether what was handled in the window runs again, or is skipped by the ledger.")
    brings: Foresight
    waiting: int = Field(description="Events in the group's retry topics, which a reset leaves alone.")
    left_alone: list[str] = Field(description="Partitions that were asked for and aren't the tape's.")
    moves: list[Move]

    @classmethod
    def of(cls, r: reset.Reset, saved: resets.Saved | None) -> Self:
        counted = bool(r.mixes) or not any(m.again or m.skipped for m in r.moves)
        moves = [Move(topic=m.topic, partition=m.partition, current=m.current, new=m.new, wanted=m.wanted,
                      brings=Foresight.of(reset.foresee([m], r.mixes, reprocess=r.reprocess), counted)) for m in r.moves]  # fmt: skip
        return cls(group=r.group, executed=saved is not None, id=saved.id if saved else None, undoes=r.undoes or None,
                   reprocess=r.reprocess, brings=Foresight.of(r.foresight, counted), waiting=r.waiting,
                   left_alone=[f"{t}/{p}" for t, p in r.left_alone],
                   moves=moves)  # fmt: skip


class SavedMove(BaseModel):
    topic: str
    partition: int
    old: int | None
    new: int


class SavedReset(BaseModel):
    """A reset that was done, with the offsets that it replaced."""

    id: str
    at: datetime
    state: str = Field(description="begun (under way, or broken off), done or undone.")
    reprocess: bool
    undoes: str | None
    who: str
    reason: str
    moves: list[SavedMove]

    @classmethod
    def of(cls, s: resets.Saved) -> Self:
        moves = [SavedMove(topic=t, partition=p, old=s.old[t, p], new=new) for (t, p), new in s.new.items()]
        return cls(id=s.id, at=from_micros(int(s.at * 1e6)), state=str(s.state), reprocess=s.reprocess, undoes=s.undoes or None, who=s.who,
                   reason=s.reason, moves=moves)  # fmt: skip


class SavedResets(BaseModel):
    items: list[SavedReset]


def preview(ask: Ask, group: GroupPath, body: Preview) -> Reset:
    with ask.ledger() as ledger:
        return Reset.of(_planned(ask, ledger, group, body), None)


def execute(ask: Ask, group: GroupPath, body: Execute) -> Reset:
    with ask.ledger() as ledger:
        reset.refuse_live(ask.settings, ledger, group, ask.now)
        return _done(ask, ledger, _planned(ask, ledger, group, body), body)


def preview_undo(ask: Ask, group: GroupPath, body: UndoPreview) -> Reset:
    with ask.ledger() as ledger:
        saved = reset.find_saved(ledger, group, body.id)
        return Reset.of(reset.plan_undo(ask.settings, ledger, saved, count=body.count), None)


def undo(ask: Ask, group: GroupPath, body: Undo) -> Reset:
    with ask.ledger() as ledger:
        reset.refuse_live(ask.settings, ledger, group, ask.now)
        saved = reset.find_saved(ledger, group, body.id)
        return _done(ask, ledger, reset.plan_undo(ask.settings, ledger, saved, count=body.count), body)


def list_resets(ask: Ask, group: GroupPath,
                limit: Annotated[int, Query(ge=1, le=1000, description="The latest so many.")] = 50) -> SavedResets:  # fmt: skip
    with ask.ledger() as ledger:
        return SavedResets(items=[SavedReset.of(s) for s in ledger.resets.list(group, limit)])


def _done(ask: Ask, ledger: Ledger, planned: reset.Reset, body: Execute | Undo) -> Reset:
    told = planned.foresight
    confirmed(body.confirm, told.again + told.skipped,
              f"Group {planned.group} sees {told.again:,} events again, and {told.skipped:,} are passed over")  # fmt: skip
    return Reset.of(planned, reset.execute(ask.settings, ledger, planned, who=ask.by.name, reason=body.reason, now=ask.now))


def _planned(ask: Ask, ledger: Ledger, group: str, body: Preview) -> reset.Reset:
    if (body.places is None) != (body.to != "places"):
        raise UsageError("`places` goes with `to` places, and with nothing else.")
    places = {(p.topic, p.partition): p.offset for p in body.places or ()}
    target = Target(To.PLACES, places=places) if places else target_of(body.to, body.value, ask.now)
    return reset.plan(ask.settings, ledger, group, target, body.topics, reprocess=body.reprocess, count=body.count)


def target_of(to: str, value: str | None, now: float) -> Target:
    """Where to, from a request's words. Raises UsageError. Pure."""
    if (value is None) != (to in _NOTHING):
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
