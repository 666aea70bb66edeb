from typing import Any

import pytest
from graphql import FragmentDefinitionNode, OperationDefinitionNode, parse
from hypothesis import given
from hypothesis import strategies as st

from hooktape.local.shop.admin import schema
from hooktape.local.shop.cost import STANDARD, Bucket, Costs


def requested(query: str, **variables: Any) -> int:
    document = parse(query)
    fragments = {node.name.value: node for node in document.definitions if isinstance(node, FragmentDefinitionNode)}
    operation = next(node for node in document.definitions if isinstance(node, OperationDefinitionNode))
    root = schema().query_type
    assert root is not None
    return Costs(schema(), fragments, variables).requested(operation.selection_set, root)


@pytest.mark.parametrize(
    ("query", "points"),
    [
        ("{ shop { name } }", 1),
        ("{ shop { name plan { shopifyPlus } } }", 2),
        ("{ orders(first: 250) { nodes { id updatedAt } pageInfo { hasNextPage } } }", 252),
        ("{ orders(first: 250) { edges { cursor node { id } } } }", 252),
        ("{ orders(first: 10) { nodes { totalPriceSet { shopMoney { amount } } } } }", 2 + 10 * 3),
        ("{ products(first: 10) { nodes { variants(first: 5) { nodes { id } } } } }", 2 + 10 * (1 + 2 + 5)),
        ("{ nodes(ids: [\"a\", \"b\"]) { id ... on Order { customer { id } } ... on Product { id } } }", 2 * (1 + 1)),
        ("query($n: Int!) { orders(first: $n) { ...page } } fragment page on OrderConnection { nodes { id } }", 2 + 7),
    ],
)  # fmt: skip
def test_a_query_asks_for_as_many_points_as_the_published_rules_say(query: str, points: int) -> None:
    assert requested(query, n=7) == points


def test_a_bucket_refills_at_its_rate_and_never_above_its_size() -> None:
    bucket = Bucket(STANDARD, now=0)
    assert bucket.take(1_900, now=0)
    assert not bucket.take(200, now=0.5)
    assert bucket.take(200, now=1)
    assert bucket.status(now=1000)["currentlyAvailable"] == STANDARD.bucket


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 1000), st.integers(0, 1000)), max_size=60))
def test_a_bucket_never_gives_more_than_its_size_and_refill(steps: list[tuple[float, int, int]]) -> None:
    bucket, now, spent = Bucket(STANDARD, 0), 0.0, 0
    for wait, points, unused in steps:
        now += wait
        if bucket.take(points, now):
            bucket.refund(min(unused, points))
            spent += points - min(unused, points)
        assert 0 <= bucket.available(now) <= STANDARD.bucket
    assert spent <= STANDARD.bucket + STANDARD.restore * now + 0.001 * len(steps)
