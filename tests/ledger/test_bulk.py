"""Bulk operations that are on their way, as the ledger remembers them."""

from hooktape.ledger.bulk import BulkOperation
from hooktape.ledger.ledger import Ledger


def test_an_operation_is_noted_before_it_begins_and_forgotten_at_its_end(ledger: Ledger) -> None:
    ledger.bulk.begin("a", "orders", "x", (1, 2), 10.0)
    ledger.bulk.begin("a", "orders", "x", (1, 3), 11.0)
    assert ledger.bulk.open("a", "orders") == [BulkOperation("a", "orders", "x", None, (1, 2), 10.0)]
    ledger.bulk.began("a", "orders", "x", "gid")
    ledger.bulk.begin("a", "products", "", None, 12.0)
    assert [(one.family, one.gid, one.window) for one in ledger.bulk.open("a")] == [("orders", "gid", (1, 2)), ("products", None, None)]
    assert ledger.bulk.open("b") == ledger.bulk.open("a", "customers") == []
    ledger.bulk.end("a", "orders", "x")
    assert [one.family for one in ledger.bulk.open("a")] == ["products"]
