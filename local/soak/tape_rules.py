"""Rules about the way in: what was answered with 2xx is on the tape, unaltered, and nothing else is. Pure."""

from collections.abc import Iterator

from hooktape.local.soak.view import RESENT_SECONDS, SETTLED_SECONDS, View, Violation

ANSWER_SECONDS = 4.5
"""Guarantee 2; Shopify hangs up at 5 s."""


def lost_or_kept(view: View) -> Iterator[Violation]:
    """lost-ack: acknowledged and not on the tape. refused-but-kept: every answer was a refusal, and it's there."""
    for wid, webhook in view.webhooks.items():
        if webhook.acked_at is not None and wid not in view.copies:
            yield view.breach("lost-ack", f"{webhook.first.topic} {wid} was acknowledged and isn't on the tape", webhook.acked_at,
                              view.where(webhook))  # fmt: skip
        elif not webhook.maybe and wid in view.copies:
            yield view.breach("refused-but-kept", f"{wid} was refused each time and is on the tape", view.copies[wid][0].at)


def foreign_or_altered(view: View) -> Iterator[Violation]:
    """phantom: on the tape, and nobody posted it. altered: not as it was posted."""
    for record in view.logs:
        webhook = view.webhooks.get(record.wid)
        if webhook is None:
            if record.source == "webhook":
                yield view.breach("phantom", f"{record.wid} is on the tape and was never posted", record.at)
            continue
        sent = webhook.first
        kept = {"body": (sent.sha, record.sha), "topic": (sent.topic, record.topic), "shop": (sent.shop, record.shop),
                "key": (sent.lane, record.key)}  # fmt: skip
        if changed := [name for name, (was, now) in kept.items() if was != now]:
            yield view.breach("altered", f"{', '.join(changed)} of {record.wid} isn't what was posted", record.at)


def written_twice(view: View) -> Iterator[Violation]:
    """written-twice: more copies than posts that may have written one, no post waited at that time for so long that records may have
    been sent again (its own, or, where one of a partition expires, all that the producer had under way with it), and the broker
    hadn't been away (a producer that begins anew after that sends what it heard nothing of). inconsistent-offset: one place, two
    webhooks."""
    slow = [post for post in view.history.posts if post.t1 - post.t0 >= RESENT_SECONDS]
    for wid, copies in view.copies.items():
        webhook = view.webhooks.get(wid)
        if webhook is None or not len(copies) > webhook.maybe > 0:
            continue
        since, until = webhook.first.t0, copies[-1].at
        again = any(post.t0 <= until and post.t1 >= since for post in slow) or view.broker_away(since - SETTLED_SECONDS, until)
        if not again:
            yield view.breach("written-twice", f"{wid} is on the tape {len(copies)} times after {webhook.maybe} posts", copies[-1].at)
    places: dict[tuple[str, int, int], str] = {}
    for record in view.history.records:
        place = (record.kafka_topic, record.partition, record.offset)
        if places.setdefault(place, record.wid) != record.wid:
            what = f"{record.kafka_topic}/{record.partition}@{record.offset} was {places[place]} and is {record.wid}"
            yield view.breach("inconsistent-offset", what, record.at)


def late_answers(view: View) -> Iterator[Violation]:
    """late-answer: told only after Shopify's patience, though nothing of ours had been frozen."""
    frozen = [(fault.t, fault.healed if fault.healed is not None else view.last) for fault in view.history.faults
              if fault.target == "ingest" and fault.kind == "stop"]  # fmt: skip
    for post in view.history.posts:
        late = post.status is not None and not post.imported and post.t1 - post.t0 > ANSWER_SECONDS
        if late and not any(since <= post.t1 and until >= post.t0 for since, until in frozen):
            yield view.breach("late-answer", f"{post.wid} got {post.status} after {post.t1 - post.t0:.2f} s", post.t1)


RULES = (lost_or_kept, foreign_or_altered, written_twice, late_answers)
