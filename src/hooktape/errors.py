"""Every error that Hooktape raises on purpose: what it means, and what to do about it.

A message says what happened, to which event or setting, and what to do; it never holds a secret or a body.
`exit_code` is the command's exit status: 1 failed, 2 wrong usage, 3 nothing matched, 4 not allowed,
5 incomplete or failed again.
"""


class HooktapeError(Exception):
    """The root: anything below is an answer for a person, not a bug."""

    exit_code = 1


class SettingsError(HooktapeError):
    """A setting is missing or can't be used. Do: correct the named setting where the message says it came from."""

    exit_code = 2


class UsageError(HooktapeError):
    """An argument makes no sense. Do: see the command's `--help`."""

    exit_code = 2


class NothingMatched(HooktapeError):
    """The selection holds no event. Do: widen it, or look whether the tape reaches that far back."""

    exit_code = 3


class NotAllowed(HooktapeError):
    """What was asked for would do harm now (a live group, a missing confirmation). Do: what the message says first."""

    exit_code = 4


class Incomplete(HooktapeError):
    """The work ended, but its account doesn't add up or something failed again. Do: look at what the message lists."""

    exit_code = 5


class TapeError(HooktapeError):
    """Kafka said no. Do: look at the broker; nothing that was acknowledged is lost."""


class TapeUnavailable(TapeError):
    """Kafka can't be reached, or didn't acknowledge in time. Do: check HOOKTAPE_KAFKA and the broker; it's safe to try again."""


class TapeFull(TapeUnavailable):
    """The producer's bounded queue is full: more comes in than Kafka takes. Do: wait; if it lasts, look at the broker's disks."""


class RecordTooLarge(TapeError):
    """A record is larger than the topic takes. Do: raise `max.message.bytes` (8 MiB by default) or lower HOOKTAPE_BODY_LIMIT."""


class TopicMissing(TapeError):
    """A topic that this service needs isn't there. Do: run `hooktape topics apply`."""

    exit_code = 2


class Fenced(TapeError):
    """Another writer of the same name took over, or its lease: nothing of what was refused is on the tape. Do: nothing, the other goes
    on."""


class NotOurs(TapeError):
    """A record on the tape can't be decoded as a WebhookEvent. Do: find who else writes there; it's dead-lettered."""


class LedgerError(HooktapeError):
    """The ledger's database said no. Do: check HOOKTAPE_DATABASE_URL and the database."""


class LedgerUnavailable(LedgerError):
    """The ledger's database can't be reached or is locked for too long. It's safe to try again."""


class TransactionRefused(LedgerError):
    """A handler's `event.transaction()` wasn't kept: the event is another worker's by now, another copy of it was finished, or its
    time had run out. Do: let it pass through the handler; nothing of the block was written, and it doesn't count as a failure."""


class AdminApiError(HooktapeError):
    """The Admin API refused a request. Do: check the shop's token, scopes and status as the message says.

    `reason` is one word for reports: unauthorized, payment_required, forbidden, locked, api_version, throttled …
    """

    def __init__(self, message: str, *, reason: str = "refused") -> None:
        super().__init__(message)
        self.reason = reason


class LocalStackError(HooktapeError):
    """The local Kafka, PostgreSQL or shop couldn't be started. Do: see the log file that the message names."""


class Retry(Exception):
    """Raised by a handler: try this event again, not before `after` seconds (None: the next delay of the schedule)."""

    def __init__(self, reason: str = "the handler asked for a retry", *, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Reject(Exception):
    """Raised by a handler: this event can never succeed; put it in the dead-letter queue at once."""
