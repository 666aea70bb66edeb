"""What the reconciler has found: its kept passes, as the ledger has them, a row for each shop and family."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from hooktape.ledger.reckoning import alone, sentence, together
from hooktape.replayer.api import models
from hooktape.replayer.api.desk import Ask
from hooktape.replayer.api.paging import Cursor, Limit, cursor, paged, place
from hooktape.times import parse_time

_Shops = Annotated[list[models.Text] | None, Query(max_length=100, description="Only these shops, by their whole domains.")]
_Families = Annotated[list[models.Text] | None, Query(max_length=100, description="Only these families: orders, products.")]


class PassCoverage(BaseModel):
    ended_at: datetime
    coverage: float


class Report(BaseModel):
    """What the passes over one family of one shop found together; every change counts once."""

    shop: str
    family: str = Field(description="The first word of its topics.")
    passes: int
    start: datetime | None = Field(alias="from")
    to: datetime | None
    counted: int | None = Field(description="What Shopify counts in the last pass's window; null: it doesn't say.")
    exact: bool = Field(description="Whether Shopify calls that count exact.")
    compared: int = Field(description="The sum of covered, late, pending, recorded, recorded_before, gone and untold.")
    covered: int = Field(description="On the tape when first compared.")
    late: int
    late_mean_seconds: float | None
    late_max_seconds: float | None
    pending: int = Field(description="Looks missing; may still come.")
    suspected: int = Field(description="Of these, for longer than prompt webhooks take.")
    recorded: int = Field(description="As synthetic events.")
    recorded_before: int = Field(description="By a pass that was killed before it could note so.")
    gone: int = Field(description="Deleted or hidden before it could be recorded.")
    untold: int = Field(description="States that Shopify has no webhook for.")
    late_after_synthetic: int = Field(description="Webhooks that came after their synthetic event.")
    deleted: int = Field(description="Deletions recorded.")
    held: int = Field(description="Deletions that wait for a person.")
    doubted: int = Field(description="Perhaps deleted; to be looked at again.")
    alive: int = Field(description="Looked deleted, and are there.")
    unverifiable: dict[str, str] = Field(description="Topic: why it can't be checked.")
    points: int = Field(description="Of the Admin API's, spent.")
    missing: int = Field(description="Resources recorded.")
    first_missing: str | None
    last_missing: str | None
    coverage: float | None = Field(description="Of the changes whose webhook came or never came, the part that came.")
    trend: Literal["rising", "falling", "steady"] | None
    coverage_by_pass: list[PassCoverage]
    missing_passes: int = Field(description="The latest passes in a row of which each recorded something.")
    ended_at: datetime
    state: str = Field(description="Of the last pass: complete, incomplete, or the reason why nothing can be said.")
    error: str


class Reports(models.Page):
    """`summary` is about the rows of this page."""

    items: list[Report]
    summary: str


def list_reports(
    ask: Ask,
    request: Request,
    response: Response,
    shop: _Shops = None,
    family: _Families = None,
    kind: Annotated[Literal["fast", "lookback", "sweep"] | None, Query(
        alias="pass", description="The last pass of this kind by itself; else all that are kept, together.")] = None,
    since: Annotated[models.Time | None, Query(description="Only passes that ended since.")] = None,
    limit: Limit = 100,
    after: Cursor = None,
) -> Reports:  # fmt: skip
    begin = None if since is None else parse_time(since).timestamp()
    with ask.ledger() as ledger:
        found = ledger.reports.pairs([name.lower() for name in shop or ()], family or (), place(after, tuple[str, str]), limit + 1)
        pairs, following = paged(request, response, found, limit, lambda pair: cursor(*pair))
        rows = []
        for pair in pairs:
            kept = ledger.reports.of(*pair, kind=kind, since=begin, last=1 if kind else None)
            if (row := alone(kept[-1]) if kind and kept else together(kept)) is not None:
                rows.append(row)
    said: list[dict[str, Any]] = [row.as_json() for row in rows]
    topics = {topic for row in rows for topic in row.unverifiable}
    return Reports(items=[Report(**one) for one in said], summary=sentence((row.tally for row in rows), topics), next=following)
