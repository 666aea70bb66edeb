"""Proof that a replay recovered what it replayed: what the group has handled last against what Shopify has now.

Comparing is pure. The present state is asked through a callable that comes from outside, since the Admin API is the reconciler's.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from hooktape.ledger.handled import Last
from hooktape.ledger.jobs import Job
from hooktape.ledger.ledger import Ledger

Answer = int | str | None
"""A resource's present version (microseconds), None where Shopify hasn't got it (any more), or why that can't be asked."""
Present = Callable[[str, Sequence[str]], Awaitable[Mapping[str, Answer]]]
"""(shop, resources) → their answers, at most `BATCH` at once."""
Progress = Callable[[int], None]
"""Gets how many resources have been compared."""

BATCH = 250
"""Resources that are looked up and asked about together: as many as `nodes(ids:)` takes (shopify.dev/docs/api/usage/limits)."""


class Verdict(StrEnum):
    """How a resource stands."""

    AGREES = "agrees"
    """What the group handled last is what Shopify has: its newest version, or its deletion."""
    DIFFERS = "differs"
    """Shopify has another version than the group handled last, or the group has handled none."""
    GONE = "gone"
    """Shopify has it no more, and the group has handled no deletion of it."""
    NOT_CHECKABLE = "not_checkable"
    """There's no asking, or nothing to compare."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One resource. Versions are microseconds; `why` says what's wrong, in words."""

    shop: str
    resource: str
    verdict: Verdict
    handled: int | None = None
    present: int | None = None
    why: str = ""


@dataclass(slots=True)
class Proof:
    """All resources of a job: how many stand how, and those that don't agree, up to a number. `reasons` counts why some couldn't be
    checked."""

    job: Job
    counts: Counter[Verdict] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)

    @property
    def recovered(self) -> bool:
        """Whether everything that could be asked about agrees, and something could."""
        return self.counts[Verdict.AGREES] > 0 and not self.counts[Verdict.DIFFERS] and not self.counts[Verdict.GONE]

    def add(self, finding: Finding, keep: int) -> None:
        """Counts a finding, and keeps it where it says something and there's room."""
        self.counts[finding.verdict] += 1
        if finding.verdict is Verdict.NOT_CHECKABLE:
            self.reasons[finding.why] += 1
        if finding.verdict is not Verdict.AGREES and len(self.findings) < keep:
            self.findings.append(finding)


def compare(shop: str, resource: str, last: Last | None, answer: Answer) -> Finding:
    """Pure. `last` None: the group has handled nothing of it with success."""
    if isinstance(answer, str):
        return Finding(shop, resource, Verdict.NOT_CHECKABLE, last.version if last else None, None, answer)
    if answer is None:
        if last is not None and last.deleted:
            return Finding(shop, resource, Verdict.AGREES, last.version)
        return Finding(shop, resource, Verdict.GONE, last.version if last else None, None,
                       "Shopify has it no more, and the group has handled no deletion of it")  # fmt: skip
    if last is None:
        return Finding(shop, resource, Verdict.DIFFERS, None, answer, "the group has handled no event of it with success")
    if last.deleted:
        return Finding(shop, resource, Verdict.DIFFERS, last.version, answer, "the group has handled its deletion, and Shopify has it")
    if last.version is None:
        return Finding(shop, resource, Verdict.NOT_CHECKABLE, None, answer, "its events carry no version")
    if last.version == answer:
        return Finding(shop, resource, Verdict.AGREES, last.version, answer)
    why = "Shopify has a newer version" if answer > last.version else "the group has handled a newer version than Shopify shows"
    return Finding(shop, resource, Verdict.DIFFERS, last.version, answer, why)


async def prove(ledger: Ledger, job: Job, present: Present, *, keep: int = 1000, progress: Progress | None = None) -> Proof:
    """Compares every resource of `job`, one shop after the other; at most `keep` findings are kept besides the counts.

    The catalogue is taken as it is: bring it up to date first. Raises LedgerError, and what `present` raises.
    """
    proof, after = Proof(job), ("", "")
    while page := await asyncio.to_thread(ledger.handled.resources, job.id, after, BATCH):
        after = page[-1]
        for shop in dict.fromkeys(shop for shop, _ in page):
            named = [resource for of, resource in page if of == shop and resource]
            if len(named) < sum(of == shop for of, _ in page):
                proof.add(Finding(shop, "", Verdict.NOT_CHECKABLE, why="its events name no resource"), keep)
            if not named:
                continue
            answers = await present(shop, named)
            last = await asyncio.to_thread(ledger.handled.last, job.group, shop, named)
            for resource in named:
                proof.add(compare(shop, resource, last.get(resource), answers.get(resource, "nothing was said of it")), keep)
        if progress:
            progress(proof.counts.total())
    return proof
