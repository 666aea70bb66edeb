"""Events per second through a worker with an empty handler and the ledger on, beside a bare loop and beside its peers.

    python benchmarks/consume.py [--events 50000] [--rounds 3] [--peers PYTHON]

One process each, one topic of four partitions, 1 KiB events of 5,000 resources, the same events for everyone in the same run. Rates count
from the first event to the last one finished: in Hooktape's ledger, or handled where there's none. Rounds take turns; the
median of each figure counts, and of the rounds' own ratios. PYTHON is one that has `benchmarks/requirements.txt` (default:
`.venv/peers`, else this one); a peer that it doesn't have is skipped.
"""

import json
import os
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from common import SIZE, Span, apart, broker, drain, fill, folder, log_topic, machine, parser, postgres, sqlite, tape, wanted
from results import Result, record

from hooktape.schemas import codec
from hooktape.settings import Settings
from hooktape.tape import clients
from hooktape.tape.wire import Wire

KEYS = 5_000
PEERS = Path(__file__).parent / "peers"
OWN = Path(__file__).parents[1] / ".venv" / "peers" / "bin" / "python"
# arroyo's own 10,000 lets librdkafka's queue fill up, and then librdkafka doesn't fetch for a second (fetch.queue.backoff.ms): three
# quarters of such a run is waiting. So it's measured both as it comes and with librdkafka's default.
QUEUED = 100_000
# FastStream takes 20 s for 50,000 events where a bare loop takes half of one.
PEER_SECONDS = 600


def bare(settings: Settings, events: int, decode: bool) -> Span:
    """A loop that a user would write: fetch, decode, nothing else."""
    wire = Wire(settings)
    consumer = clients.consumer(settings, f"bare-{uuid.uuid4().hex}", **{
        "auto.offset.reset": "earliest", "group.protocol": "consumer", "queued.min.messages": QUEUED})  # fmt: skip
    consumer.subscribe([log_topic(settings)])
    seen, start, cpu = 0, 0.0, 0.0
    while seen < events:
        batch = consumer.consume(500, 1)
        if batch and not seen:
            start, cpu = time.perf_counter(), time.process_time()
        seen += len(batch)
        if decode:
            for message in batch:
                wire.decode(message.value())
    span = Span(time.perf_counter() - start, time.process_time() - cpu)
    consumer.close()
    return span


def peer(python: str, script: str, *words: str) -> Span:
    """What the peer's process says of itself. Raises SystemExit when it fails."""
    done = subprocess.run([python, str(PEERS / script), *words], stdout=subprocess.PIPE, text=True, timeout=PEER_SECONDS, check=False)
    if done.returncode or not done.stdout:
        raise SystemExit(f"{script} failed ({done.returncode}); its errors are above.")
    return Span(**json.loads(done.stdout))


def installed(python: str, module: str) -> bool:
    """Whether that Python has the module; says so if not."""
    found = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False).returncode == 0
    if not found:
        print(f"SKIPPED: {module}. {python} doesn't have it; see benchmarks/README.md.", file=sys.stderr)
    return found


def systems(settings: Settings, events: int, home: Path, url: str, python: str) -> list[tuple[str, Callable[[], Span]]]:
    """Everyone who can run here, by name."""
    schema = home / "schema.avsc"
    schema.write_text(json.dumps(codec.plain(json.loads(codec.schema_json()))))
    common = (settings.kafka, log_topic(settings), str(events))
    chosen: list[tuple[str, Callable[[], Span]]] = [
        ("bare consume", lambda: apart(bare, settings, events, False)),
        ("bare consume + decode", lambda: apart(bare, settings, events, True)),
        ("hooktape", lambda: apart(drain, settings, sqlite(home), events)),
        ("hooktape (PostgreSQL ledger)", lambda: apart(drain, settings, url, events)),
    ]
    if installed(python, "arroyo"):
        chosen.append(("arroyo", lambda: peer(python, "consume_arroyo.py", *common, str(schema))))
        chosen.append(("arroyo, longer queue", lambda: peer(python, "consume_arroyo.py", *common, str(schema), str(QUEUED))))
    if installed(python, "faststream"):
        chosen.append(("FastStream", lambda: peer(python, "consume_faststream.py", *common)))
    return chosen


def main() -> None:
    """Runs the rounds, prints the medians and the ratios that were wanted."""
    options = parser(__doc__)
    options.add_argument("--events", type=int, default=50_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--peers", default=os.environ.get("HOOKTAPE_BENCH_PEERS") or (str(OWN) if OWN.exists() else sys.executable))
    chosen = options.parse_args()
    events = chosen.events
    spans: dict[str, list[Span]] = {}
    with folder() as home, broker(home) as bootstrap, postgres(home) as url:
        settings = tape(bootstrap, home)
        fill(settings, events, KEYS)
        everyone = systems(settings, events, home, url, chosen.peers)
        for number in range(chosen.rounds):
            for name, measure in everyone:
                spans.setdefault(name, []).append(span := measure())
                print(f"round {number + 1}: {name}: {events / span.seconds:,.0f} events/s", file=sys.stderr, flush=True)
    rates = {name: statistics.median(events / span.seconds for span in found) for name, found in spans.items()}
    costs = {name: statistics.median(span.cpu / events * 1e6 for span in found) for name, found in spans.items()}
    print(f"{events:,} events of {SIZE} bytes, {KEYS:,} keys, one process, median of {chosen.rounds}; {machine()}")

    def beside(name: str, other: str) -> float:
        """How many times the other's rate, the median of the rounds' own ratios: a machine isn't equally quiet in all of them."""
        return statistics.median(theirs.seconds / mine.seconds for mine, theirs in zip(spans[name], spans[other], strict=True))

    for name, rate in rates.items():
        ratio = beside(name, "bare consume + decode")
        print(f"{name:30} {rate:>10,.0f} events/s   {ratio:5.2f} of bare + decode   {costs[name]:6.1f} µs of CPU an event")
    print(wanted("of bare consume + decode", beside("hooktape", "bare consume + decode"), 0.3, least=True))
    for name, bound in (("arroyo", 1.3), ("FastStream", 8)):
        if name in rates:
            print(wanted(f"times {name}", beside("hooktape", name), bound, least=True))
    if "arroyo, longer queue" in rates:
        print(f"times arroyo, longer queue: {beside('hooktape', 'arroyo, longer queue'):.3g}")
    print(wanted("PostgreSQL ledger, of SQLite", beside("hooktape (PostgreSQL ledger)", "hooktape"), 0.8, least=True))
    if not chosen.no_record:
        case = f"{SIZE} bytes, empty handler"
        record("consume", [entry for name in rates for entry in (
            Result(bench="consume", case=case, system=name, value=round(rates[name]), unit="events/s"),
            Result(bench="consume", case=f"{case}, CPU", system=name, value=round(costs[name], 1), unit="µs/event"))])  # fmt: skip


if __name__ == "__main__":
    main()
