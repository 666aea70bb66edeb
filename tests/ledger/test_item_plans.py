"""What is asked of a job's items while it runs is answered from an index, on a SQLite that has never been analysed."""

from pathlib import Path

import pytest

from hooktape.ledger.ledger import Ledger

OPEN = "outcome IS NULL AND decision = 'run'"


@pytest.mark.parametrize(("query", "index"), [
    (f"SELECT COUNT(*) FROM replay_items WHERE job = 1 AND seq <= 5 AND {OPEN}", "COVERING INDEX replay_items_open"),
    (f"SELECT j.id, i.id FROM jobs j JOIN replay_items i ON j.number = i.job WHERE j.id IN ('a', 'b') AND i.id IN (x'00') AND i.{OPEN}",
     "COVERING INDEX replay_items_open"),
    ("SELECT seq FROM replay_items WHERE job = 1 AND kafka_partition = 1 AND kafka_offset = 5", "COVERING INDEX replay_items_place"),
    ("UPDATE replay_items SET outcome = 'x' WHERE job = (SELECT number FROM jobs WHERE id = 'a') AND id = x'00' AND outcome IS NULL "
     "AND decision = 'run' AND seq = 5", "PRIMARY KEY (job=? AND seq=?)"),
])  # fmt: skip
def test_a_running_job_is_asked_by_its_indexes(tmp_path: Path, query: str, index: str) -> None:
    with Ledger.open(f"sqlite:///{tmp_path}/ledger.db") as ledger:
        plan = ledger._database.read(lambda t: [str(row[3]) for row in t.rows(f"EXPLAIN QUERY PLAN {query}")])
    assert any(index in step for step in plan), plan
