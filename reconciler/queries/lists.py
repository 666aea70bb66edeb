"""Which resources changed: pages, counts and bulk operations of any list, as text."""

from dataclasses import dataclass

FURTHER = 200
"""Rows of a further page of what is inside one node: at up to 4 objects a row, a query's 1,000 points are nearly all."""


@dataclass(frozen=True, slots=True)
class Listing:
    """How the API lists what changed: pages of a connection at the top, or a connection or list inside of it."""

    root: str
    """The connection at the top: `orders`."""
    row: str
    """What a row is made of: the selection on a node of it."""
    inside: str = ""
    """Where the rows are when they aren't the root's nodes: `refunds` of an order."""
    connection: bool = False
    """`inside` is a connection, with pages of its own; else a plain list, which is whole."""
    owner: str = ""
    """Type of the root's nodes, to page `inside` by id."""
    arguments: str = ""
    """Further arguments of the root, such as `includeClosed: true`."""
    inside_arguments: str = ""
    sorted: bool = True
    """Takes `sortKey: ID`: an edit while paging can't shift pages, and sorting by UPDATED_AT is known to omit rows."""
    size: int = 250
    """Root nodes a page."""
    inside_size: int = 0
    counted: bool = True
    """The API counts the root (`ordersCount`)."""
    count_filtered: bool = True
    """That count takes a `query`; else it's of all there is."""
    short: bool = False
    """There should never be so many that they need more than one page: no edit can shift any then, whatever the order. A list that
    does have more proves nothing about what it doesn't show."""
    filtered: bool = True
    """The root (or, where `inner_filter`, what is inside) can be filtered by `updated_at`; else all of it is listed."""
    inner_filter: bool = False
    searched: bool = True
    """The root, or what is inside, takes a `query` at all."""
    pad: int = 0
    """Microseconds by which the filter is widened on both sides, where it's read in the shop's zone."""
    points: int = 260
    """Most that a page costs, by the published rules."""


def page(listing: Listing) -> str:
    """One page of root nodes, each with the first page of what is inside. Variables: `query` (null: all) and `after`."""
    given = [f"first: {listing.size}", "after: $after", *_root(listing, "$query")]
    asked = "$query: String, $after: String" if listing.searched else "$after: String"
    return f"""
query List({asked}) {{
  {listing.root}({", ".join(given)}) {{
    nodes {{ {_node(listing, "$query", bulk=False)} }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""


def rows(listing: Listing, gid_type: str) -> str:
    """The rows of known resources. Variable: `ids`."""
    return f"""
query Rows($ids: [ID!]!) {{
  nodes(ids: $ids) {{ ... on {gid_type} {{ {listing.row} }} }}
}}
"""


def rest(listing: Listing) -> str:
    """A further page of what is inside a root node. Variables: `id`, `after`, and `query` where it's filtered inside."""
    shown = f"""{listing.inside}({", ".join([f"first: {FURTHER}", "after: $after", *_inside(listing, "$query")])}) {{
      nodes {{ {listing.row} }} pageInfo {{ hasNextPage endCursor }} }}"""
    asked = "$id: ID!, $after: String!" + (", $query: String" if listing.inner_filter else "")
    return f"""
query Rest({asked}) {{
  node(id: $id) {{ ... on {listing.owner} {{ {shown} }} }}
}}
"""


def bulk(listing: Listing, search: str) -> str:
    """All of it as a bulk operation: unsorted, since a bulk sorted by UPDATED_AT omits rows; the search is part of the text."""
    # A search text has no quotation marks and no backslashes of its own (family.search): it needs no escaping.
    quoted = f'"{search}"' if search else ""
    given = ", ".join(_root(listing, quoted, ordered=False))
    return f"""{{ {listing.root}{f"({given})" if given else ""} {{ edges {{ node {{ {_node(listing, quoted, bulk=True)} }} }} }} }}"""


def count(listing: Listing) -> str:
    """How many there are; `limit: null`, since a count stops at 10,000 by default. Variable: `query`, where it takes one."""
    asked, given = ("($query: String)", "query: $query, ") if listing.count_filtered else ("", "")
    return f"query Count{asked} {{ {listing.root}Count({given}limit: null) {{ count precision }} }}"


def _root(listing: Listing, search: str, ordered: bool = True) -> list[str]:
    given = [f"query: {search}"] if search and not listing.inner_filter and listing.searched else []
    given += ["sortKey: ID"] if ordered and listing.sorted else []
    return given + ([listing.arguments] if listing.arguments else [])


def _inside(listing: Listing, search: str) -> list[str]:
    given = [f"query: {search}"] if search and listing.inner_filter else []
    return given + ([listing.inside_arguments] if listing.inside_arguments else [])


def _node(listing: Listing, search: str, bulk: bool) -> str:
    if not listing.inside:
        return listing.row
    if not listing.connection:
        return f"id {listing.inside} {{ {listing.row} }}"
    if bulk:
        given = ", ".join(_inside(listing, search))
        return f"id {listing.inside}{f'({given})' if given else ''} {{ edges {{ node {{ {listing.row} }} }} }}"
    given = ", ".join([f"first: {listing.inside_size}", *_inside(listing, search)])
    return f"id {listing.inside}({given}) {{ nodes {{ {listing.row} }} pageInfo {{ hasNextPage endCursor }} }}"
