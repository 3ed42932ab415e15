"""A validator for JSON schemas, small and strict: a keyword that it does not know is an error, not ignored.

Its meaning is that of draft 2020-12 (json-schema.org, "Validation"), written apart from what makes our schemas.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMAS = Path(__file__).parent.parent / "docs" / "schema"

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
_KNOWN = {
    *("$schema", "title", "description", "type", "properties", "required", "additionalProperties"),
    *("items", "anyOf", "enum"),
}


def published(name: str) -> Any:
    """The schema of that name as it is published."""
    return json.loads((SCHEMAS / f"{name}.json").read_text())


def violations(value: Any, schema: Any, *, place: str = "$") -> list[str]:
    """One line for each place where a value is not what its schema says."""
    return list(_violations(value, schema, place))


def _violations(value: Any, schema: Any, place: str) -> Iterator[str]:
    if isinstance(schema, bool):
        if not schema:
            yield f"{place}: nothing is allowed here"
        return
    assert not schema.keys() - _KNOWN, f"{place}: unknown keywords {schema.keys() - _KNOWN}"
    if "anyOf" in schema and all(violations(value, each) for each in schema["anyOf"]):
        yield f"{place}: {value!r} is none of {schema['anyOf']}"
    if "enum" in schema and not any(value == each and type(value) is type(each) for each in schema["enum"]):
        yield f"{place}: {value!r} is not one of {schema['enum']}"
    if "type" in schema and not _is_of_type(value, schema["type"]):
        yield f"{place}: {value!r} is no {schema['type']}"
        return
    if isinstance(value, list) and "items" in schema:
        for index, each in enumerate(value):
            yield from _violations(each, schema["items"], f"{place}[{index}]")
    if isinstance(value, dict):
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{place}: {name!r} is missing"
        for name, each in value.items():
            other = schema.get("additionalProperties", True)
            yield from _violations(each, schema.get("properties", {}).get(name, other), f"{place}.{name}")


def _is_of_type(value: Any, name: str) -> bool:
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))
