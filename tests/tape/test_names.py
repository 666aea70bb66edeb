from hypothesis import given
from hypothesis import strategies as st

from hooktape.schemas.topics import table
from hooktape.tape.names import Kind, Names, TopicName

groups = st.from_regex(r"[a-zA-Z0-9_-]{1,100}", fullmatch=True)
prefixes = st.from_regex(r"[a-z][a-z0-9_.-]{0,20}[a-z0-9]", fullmatch=True)
# What the settings take: whole milliseconds up to weeks.
delays = st.integers(1, 30 * 86_400_000).map(lambda ms: ms / 1000)


@given(prefixes, groups, delays, st.sampled_from(sorted(t.kafka_name for t in table().values())))
def test_every_name_that_is_built_is_taken_apart_again(prefix: str, group: str, delay: float, shopify: str) -> None:
    names = Names(prefix)
    assert names.parse(names.log(shopify)) == TopicName(Kind.LOG, shopify=shopify)
    assert names.parse(names.dlq(group)) == TopicName(Kind.DLQ, group=group)
    assert names.parse(names.replay(group)) == TopicName(Kind.REPLAY, group=group)
    found = names.parse(names.retry(group, delay))
    assert found is not None
    assert (found.kind, found.group) == (Kind.RETRY, group)
    assert abs(found.delay - delay) < 0.0005


@given(st.text(max_size=60))
def test_a_foreign_name_is_not_ours_and_never_an_error(rest: str) -> None:
    names = Names("hooktape")
    assert names.parse(rest) is None or rest.startswith("hooktape.")
    parsed = names.parse(f"hooktape.{rest}")
    assert parsed is None or parsed.kind in set(Kind)


def test_a_topic_that_only_looks_like_a_retry_of_ours_is_not_ours() -> None:
    names = Names("hooktape")
    assert names.parse("hooktape.retry.g.soon") is None
    assert names.parse("hooktape.dlq.a.b") is None
