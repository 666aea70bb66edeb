"""How far back the tape reaches for who wants to begin in the past."""

from dataclasses import replace

from hooktape.ledger.ledger import Ledger
from hooktape.ledger.selection import Selection

# Ingest's clock and the operator's word are a little apart; below this nobody misses anything.
_SLACK = 60_000_000


def reach(ledger: Ledger, selection: Selection) -> int | None:
    """The time (microseconds) at which the tape begins for the selection's topics and shops, where that is later than its `since`.

    None: it reaches back far enough, or holds nothing at all of them. That nothing came before can't be told from that it's gone.
    """
    oldest = ledger.catalogue.find(replace(selection, since=None, until=None, statuses=()), limit=1)
    if not oldest or selection.since is None or oldest[0].received_at <= selection.since + _SLACK:
        return None
    return oldest[0].received_at
