"""A job's account in words, and whether it may be called complete."""

from hooktape.errors import Incomplete
from hooktape.ledger.items import Account
from hooktape.ledger.jobs import Job, JobState


def shortfall(account: Account) -> str:
    """What keeps an account from being complete, in words; "" when nothing does. Pure."""
    parts = []
    if not account.adds_up:
        known = account.planned + sum(account.not_run.values())
        parts.append(f"the account holds {known} of {account.selected} selected events")
    for number, words in ((account.failed_again, "failed again"), (account.in_flight, "have no outcome yet"),
                          (account.not_sent, "were not handed over")):  # fmt: skip
        if number:
            parts.append(f"{number} {words}")
    return ", ".join(parts)


def check(job: Job, account: Account) -> None:
    """Raises Incomplete (exit code 5) unless every event has its outcome and none failed again. A job that was paused isn't an error."""
    if job.state not in (JobState.DONE, JobState.PAUSED):
        raise Incomplete(f"Job {job.id} is {job.state}: {job.note or shortfall(account) or 'it was stopped'}. "
                         f"`hooktape replay show {job.id}` lists the events.")  # fmt: skip
