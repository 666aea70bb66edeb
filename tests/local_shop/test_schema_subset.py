from functools import cache
from pathlib import Path
from typing import Any

import pytest
from graphql import parse, print_ast

from hooktape.local.shop import fields, roots

OURS = sorted(Path(fields.__file__).parent.glob("*.graphql"))


@cache
def definitions(*files: Path) -> dict[str, Any]:
    nodes = parse("\n".join(file.read_text() for file in files), no_location=True).definitions
    return {node.name.value: node for node in nodes if getattr(node, "name", None)}  # type: ignore[attr-defined]


def names(nodes: Any) -> set[str]:
    return {node.name.value for node in nodes or ()}


def test_every_type_field_and_argument_is_in_the_real_schema_with_the_same_type(shared: Path) -> None:
    real, ours = definitions(shared / "admin-2026-04.graphql"), definitions(*OURS)
    assert len(ours) > 40
    for name, node in ours.items():
        theirs = real[name]
        assert theirs.kind == node.kind, name
        assert names(getattr(node, "interfaces", ())) <= names(getattr(theirs, "interfaces", ())), name
        assert names(getattr(node, "values", ())) <= names(getattr(theirs, "values", ())), name
        fields = {field.name.value: field for field in getattr(theirs, "fields", None) or ()}
        for field in getattr(node, "fields", None) or ():
            label, same = f"{name}.{field.name.value}", fields[field.name.value]
            assert print_ast(field.type) == print_ast(same.type), label
            arguments = {one.name.value: one for one in getattr(same, "arguments", None) or ()}
            for argument in getattr(field, "arguments", None) or ():
                assert _written(argument) == _written(arguments[argument.name.value]), label


def _written(argument: Any) -> str:
    default = f" = {print_ast(argument.default_value)}" if argument.default_value else ""
    return f"{argument.name.value}: {print_ast(argument.type)}{default}"


OBJECTS = sorted(name for name, node in definitions(*OURS).items() if node.kind == "object_type_definition")


@pytest.mark.parametrize("name", OBJECTS)
def test_every_field_of_our_schema_has_an_answer(name: str) -> None:
    roots_of = {"QueryRoot": roots.QUERIES, "Mutation": roots.MUTATIONS}
    table = roots_of[name] if name in roots_of else fields.table()[name]
    assert set(fields.schema().type_map[name].fields) <= set(table)  # type: ignore[attr-defined]
