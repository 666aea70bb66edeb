"""Histories as a flawless Hooktape would leave them, made from a seed: with retries, deaths, freezes, copies and dead letters."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable

import msgspec

from hooktape.local.soak.history import (
    Asked,
    Attempt,
    Command,
    Commit,
    Facts,
    Fault,
    Handler,
    History,
    Item,
    Outcome,
    Post,
    Record,
    Row,
)

GROUP = "g"
SHOP = "s.myshopify.com"
HANDLERS = [
    Handler(GROUP, "plain", ("orders/create",), max_attempts=4),
    Handler(GROUP, "newest", ("products/update",), skip_stale=True, max_attempts=4),
    Handler(GROUP, "unordered", ("customers/update",), ordered=False, max_attempts=4),
    Handler(GROUP, "booked", ("refunds/create",), transactional=True, max_attempts=4),
]
PIDS = (101, 102)


class _Maker:
    def __init__(self, seed: int, faults: bool) -> None:
        self.random, self.faults = random.Random(seed), faults
        self.history = History(Facts(seed=seed, drain=1.0), list(HANDLERS))
        self.now = 100.0
        self.offsets: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.versions: defaultdict[str, int] = defaultdict(int)
        self.applied: defaultdict[str, int] = defaultdict(lambda: -1)
        self.pids = list(PIDS)
        self.letters = 0

    def tick(self, most: float = 0.01) -> float:
        self.now += self.random.uniform(0.001, most)
        return self.now

    def webhook(self, number: int) -> None:
        handler = self.random.choice(HANDLERS)
        topic = handler.topics[0]
        resource = f"{topic.split('/')[0][:-1]}/{self.random.randrange(20)}"
        self.versions[resource] += 1
        version = self.versions[resource]
        if handler.skip_stale and self.random.random() < 0.1:
            version = max(1, version - 2)
        lane, wid = f"{SHOP}/{resource}", f"w{number}"
        partition = int(resource.split('/')[1]) % 2
        statuses: list[int | None] = [200]
        if self.random.random() < 0.05:
            statuses = [self.random.choice([503, None]), 200]
        for status in statuses:
            t0 = self.tick()
            self.history.posts.append(Post(wid, SHOP, topic, lane, resource, version, f"sha-{wid}", t0, self.tick(), status))
            if status == 200 or self.random.random() < 0.5:
                self.record("log", f"log.{topic}", partition, wid, topic, lane)
        self.handle(handler, wid, topic, lane, resource, version, partition)

    def record(self, kind: str, kafka_topic: str, partition: int, wid: str, topic: str, lane: str, *, attempts: int = 0,
               due: float | None = None) -> None:  # fmt: skip
        offset = self.offsets[kafka_topic, partition]
        self.offsets[kafka_topic, partition] += 1
        group = "" if kind == "log" else GROUP
        at = self.tick()
        self.history.records.append(Record(kind, kafka_topic, partition, offset, at, wid, SHOP, topic, f"sha-{wid}", lane, group=group,
                                           attempts=attempts, due=due, received=int(at * 1e6)))  # fmt: skip

    def handle(self, handler: Handler, wid: str, topic: str, lane: str, resource: str, version: int, partition: int) -> None:
        state = "succeeded"
        if handler.skip_stale and version < self.applied[resource]:
            state = "stale"
        else:
            fails = self.random.choice([0] * 20 + [1, 2, 4])
            attempt = 1
            while attempt <= fails:
                self.attempt(handler, wid, lane, resource, version, attempt, ok=False)
                if attempt == handler.max_attempts:
                    self.record("dlq", f"dlq.{GROUP}", partition, wid, topic, lane, attempts=attempt)
                    state = "dead"
                    break
                due = self.now + 0.5
                self.record("retry", f"retry.{GROUP}", partition, wid, topic, lane, attempts=attempt, due=due)
                self.now = due + 0.01
                attempt += 1
            if state == "succeeded":
                self.succeed(handler, wid, lane, resource, version, attempt)
        if state == "succeeded":
            self.applied[resource] = max(self.applied[resource], version)
        self.history.outcomes.append(Outcome(GROUP, wid, state))
        place = (f"log.{topic}", partition)
        self.history.commits.append(Commit(GROUP, *place, self.offsets[place], self.tick(), self.tick()))

    def succeed(self, handler: Handler, wid: str, lane: str, resource: str, version: int, attempt: int) -> None:
        chance = self.random.random() if self.faults else 1.0
        index = self.random.randrange(len(self.pids))
        pid = self.pids[index]
        if chance < 0.02:
            # Killed after its effect (or before: a transaction that hadn't been committed), and run again by another.
            effect = not handler.transactional
            self.attempt(handler, wid, lane, resource, version, attempt, ok=effect, pid=pid, end=effect)
            self.history.faults.append(Fault("kill", "worker", pid, self.tick(), self.now + 1))
            self.pids[index] += 1000
            self.now += 1.5
        elif chance < 0.03 and not handler.transactional:
            # Frozen in the middle of it: another does it meanwhile, and what was frozen goes on to its end.
            start, frozen = self.tick(), self.tick()
            self.now += 2.0
            self.attempt(handler, wid, lane, resource, version, attempt, ok=True, pid=self.pids[1 - index])
            thawed = self.now + 1.0
            self.now = thawed + 0.01
            self.history.faults.append(Fault("stop", "worker", pid, frozen, thawed))
            self.history.attempts.append(
                Attempt(GROUP, handler.name, wid, lane, resource, version, attempt, "", pid, start, self.now, True))  # fmt: skip
            return
        self.attempt(handler, wid, lane, resource, version, attempt, ok=True)

    def attempt(self, handler: Handler, wid: str, lane: str, resource: str, version: int, attempt: int, *, ok: bool,
                pid: int | None = None, end: bool = True) -> None:  # fmt: skip
        pid = self.random.choice(self.pids) if pid is None else pid
        start, at, finish = self.tick(), self.tick(), self.tick()
        if ok and handler.transactional:
            self.history.rows.append(Row(GROUP, handler.name, wid, lane, resource, version, "", pid, at))
        self.history.attempts.append(
            Attempt(GROUP, handler.name, wid, lane, resource, version, attempt, "", pid, start, finish if end else None, ok))  # fmt: skip


def clean(seed: int, webhooks: int = 300, faults: bool = True) -> History:
    """A history without a violation."""
    maker = _Maker(seed, faults)
    for number in range(webhooks):
        maker.webhook(number)
    ends = {f"{topic}/{partition}": end for (topic, partition), end in maker.offsets.items() if topic.startswith("log.")}
    maker.history.facts = Facts(seed=seed, drain=1.0, ends=ends)
    return maker.history


def with_replay(history: History) -> History:
    """The same with three replays: a forced one of the latest orders, in which one dies; a redrive of dead refunds; and one that isn't
    forced, of the orders of the first: all are done but the one that died."""
    replayer = _Replayer(history)
    orders = [r for r in history.records if r.kind == "log" and r.topic == "orders/create"]
    since = sorted(r.received for r in orders)[-15]
    latest = Asked(("orders/create",), since, None)
    replayer.run("forced", msgspec.structs.replace(latest, forced=True), fails=1)
    replayer.run("redrive", Asked(("refunds/create",), dead=True, redrive=True))
    replayer.run("late", latest)
    return history


class _Replayer:
    def __init__(self, history: History) -> None:
        self.history = history
        self.now = max([*(a.end or a.start for a in history.attempts), *(r.at for r in history.records)]) + 10
        self.offset = self.dlq_offset = 0
        self.handlers = {topic: handler for handler in history.handlers for topic in handler.topics}

    def tick(self) -> float:
        self.now += 0.01
        return self.now

    def run(self, job: str, asked: Asked, fails: int = 0) -> None:
        """Plans and runs a job as a flawless replayer would; the last `fails` of its events die in it."""
        began = self.tick()
        states = {o.wid: o.state for o in self.history.outcomes}
        chosen: dict[str, Record] = {}
        for record in sorted((r for r in self.history.records if r.kind == "log"), key=lambda r: r.received):
            if record.topic in asked.topics and record.received >= (asked.since or 0) and (not asked.dead or states[record.wid] == "dead"):
                chosen.setdefault(record.wid, record)
        chosen = {wid: record for wid, record in chosen.items()
                  if all(r.received >= (asked.since or 0) for r in self.history.records if r.wid == wid and r.kind == "log")}  # fmt: skip
        decided = {wid: "run" if asked.forced or states[wid] == "dead" else "done" for wid in chosen}
        self.now += 3
        self.command("plan", job, began, dict(Counter(decided.values())), asked)
        began = self.tick()
        run = [chosen[wid] for wid, decision in decided.items() if decision == "run"]
        for record in run:
            self.history.records.append(change(record, kind="replay", kafka_topic=f"replay.{GROUP}", offset=self.offset, group=GROUP,
                                               at=self.tick(), generation=job, partition=0))  # fmt: skip
            self.offset += 1
        ends = {record.wid: "failed_again" if i >= len(run) - fails else "succeeded" for i, record in enumerate(run)}
        for record in run:
            self.handle(job, record, ok=ends[record.wid] == "succeeded")
        self.history.items += [Item(job, GROUP, wid, decision, ends.get(wid, ""), not fails, seq)
                               for seq, (wid, decision) in enumerate(decided.items(), 1)]  # fmt: skip
        told = Counter(ends.values()) + Counter(f"not_run:{d}" for d in decided.values() if d != "run")
        self.command("run", job, began, dict(told), None, 5 if fails else 0)
        self.now += 3

    def handle(self, job: str, record: Record, ok: bool) -> None:
        handler, wid = self.handlers[record.topic], record.wid
        post = next(p for p in self.history.posts if p.wid == wid)
        start, at, end = self.tick(), self.tick(), self.tick()
        if ok and handler.transactional:
            self.history.rows.append(Row(GROUP, handler.name, wid, post.lane, post.resource, post.version, job, PIDS[0], at))
        self.history.attempts.append(
            Attempt(GROUP, handler.name, wid, post.lane, post.resource, post.version, 1, job, PIDS[0], start, end, ok))  # fmt: skip
        if not ok:
            self.dlq_offset -= 1
            self.history.records.append(change(record, kind="dlq", kafka_topic=f"dlq.{GROUP}", offset=5000 + self.dlq_offset, group=GROUP,
                                               at=self.tick(), generation=job, attempts=1))  # fmt: skip
        index = next(i for i, o in enumerate(self.history.outcomes) if o.wid == wid)
        self.history.outcomes[index] = change(self.history.outcomes[index], state="succeeded" if ok else "dead")

    def command(self, verb: str, job: str, began: float, told: dict[str, int], asked: Asked | None, code: int = 0) -> None:
        self.history.commands.append(Command(verb, job, 900, began, self.tick(), code, told, sum(told.values()), asked))


change = msgspec.structs.replace
Plant = Callable[[History], None]
