"""What a group needs whose past is brought to it, and how far back the tape reaches for that."""

from hooktape.errors import TopicMissing
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection
from hooktape.settings import Settings
from hooktape.tape import topics
from hooktape.tape.names import Names, check_group

# Ingest's clock and the operator's word are a little apart; below this nobody misses anything.
_SLACK = 60_000_000


def provide(settings: Settings, group: str) -> None:
    """Makes the group's topics where they aren't there: its past may come before its first worker. Raises SettingsError for a name that
    can't be a group's, TapeUnavailable."""
    try:
        topics.require(settings, [Names(settings.topic_prefix).replay(check_group(group))])
    except TopicMissing:
        topics.apply(settings, [group])


def reach(ledger: Ledger, selection: Selection) -> int | None:
    """The time (microseconds) at which the tape begins for the selection's topics and shops, where that is later than its `since`.

    None: it reaches back far enough, or holds nothing at all of them. That nothing came before can't be told from that it's gone.
    """
    oldest = ledger.catalogue.find(Selection(topics=selection.topics, shops=selection.shops), limit=1)
    if not oldest or selection.since is None or oldest[0].received_at <= selection.since + _SLACK:
        return None
    return oldest[0].received_at
