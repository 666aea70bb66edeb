"""`benchmarks/results/latest.json`: a list of {"bench", "case", "system", "value", "unit"}, one entry per measurement."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TypedDict

LATEST = Path(__file__).parent / "results" / "latest.json"


class Result(TypedDict):
    """`system` is `hooktape` or a peer's name; `case` is the same text for all that are compared."""

    bench: str
    case: str
    system: str
    value: float
    unit: str


def record(bench: str, results: Iterable[Result], path: Path = LATEST) -> None:
    """Puts the results of a bench in place of its earlier ones; those of other benches stay."""
    kept = [entry for entry in (json.loads(path.read_text()) if path.exists() else []) if entry["bench"] != bench]
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(entry) for entry in [*kept, *results])
    path.write_text(f"[\n{lines}\n]\n")
