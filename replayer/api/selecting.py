"""The one Selection as query parameters and as a JSON object: both are made from the ledger's table of its fields."""

import inspect
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import Depends, Query
from pydantic import ConfigDict, Field, StringConstraints, create_model

from hooktape.ledger.selection import FIELDS, Kind, Selection
from hooktape.ledger.selection import Field as SelectionField
from hooktape.replayer.api.models import Strict, Text, Time


def _type(field: SelectionField, *, query: bool) -> Any:
    one: Any = Text
    if field.kind is Kind.TIME:
        one = Time
    elif field.kind is Kind.NUMBER:
        one = Annotated[int, Field(ge=1, le=999_999)]
    elif field.choices and query and field.repeatable:
        words = "|".join(map(re.escape, field.choices))  # several with commas between, as in a command's option
        one = Annotated[str, StringConstraints(pattern=f"^({words})(,({words}))*$")]
    elif field.choices:
        one = Literal[field.choices]
    return list[one] if field.repeatable else one | None


def _from_query() -> Any:
    def selected(**options: Any) -> Selection:
        return Selection.parse(options)

    # FastAPI reads a function's parameters from its signature: here it's the table of the fields.
    selected.__signature__ = inspect.Signature([  # type: ignore[attr-defined]
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=[] if field.repeatable else None,
                          annotation=Annotated[_type(field, query=True), Query(description=field.help)])
        for field in FIELDS
    ])  # fmt: skip
    return selected


Selecting = Annotated[Selection, Depends(_from_query())]
"""A selection from the query: `?topic=orders/*&since=2h`."""

_fields: Mapping[str, Any] = {
    field.name: (_type(field, query=False), Field(default_factory=list, description=field.help) if field.repeatable
                 else Field(default=None, description=field.help))
    for field in FIELDS
}  # fmt: skip
SelectionBody: type[Strict] = create_model("Selection", __base__=Strict, __doc__="All fields must hold; of a field, any of its values.",
                                           **_fields)  # fmt: skip
SelectionBody.model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"topic": ["orders/*"], "since": "2h"}]})
SelectionBody.model_rebuild(force=True)


def selection_of(body: Strict) -> Selection:
    """The selection in a request's body. Raises UsageError."""
    return Selection.parse(body.model_dump(exclude_none=True))
