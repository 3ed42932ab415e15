"""What each answer looks like, as JSON schema (draft 2020-12), from the declared types.

osctl/NAME       the answer of a command of ours: `response` of the typed request, and what `-j` prints
original/NAME    `response` of a request of the original's protocol
plan             `response` of any change that was asked for with `dry_run`
message          the lines of the protocol around it
error            what `-j` prints on standard error
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from osctld.cli.interpret import ErrorLine
from osctld.core.command import Command, ListOptions, ShowOptions
from osctld.protocol.catalogue import commands, requests
from osctld.protocol.families.ct import ExitStatusAnswer
from osctld.protocol.request import Request

_DRAFT = "https://json-schema.org/draft/2020-12/schema"


class PlanAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    plan: list[str]


class Greeting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: str


class Progress(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: Literal[True]
    progress: str


class Success(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: Literal[True]
    response: Any
    changed: bool = False


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: Literal[False]
    message: str
    code: str
    subject: str
    holder: str


def schemas() -> Mapping[str, dict[str, Any]]:
    """All schemas by name."""
    made: dict[str, dict[str, Any]] = {}
    for name, command in commands().items():
        made[f"osctl/{name}"] = _document(f"osctl {' '.join(command.words)}", answer_of_command(command))
    for name, request in requests().items():
        made[f"original/{name}"] = _document(name, answer_of_request(request))
    made["plan"] = _document("the plan of a change", _closed(PlanAnswer))
    made["error"] = _document("an error on standard error", _closed(ErrorLine))
    made["message"] = _document(
        "a line from the daemon",
        {"anyOf": [_closed(each) for each in (Greeting, Progress, Success, Failure)]},
    )
    return made


def answer_of_command(command: type[Command]) -> dict[str, Any]:
    if command.columns:
        row = {
            "type": "object",
            "properties": {each.name: _closed(each.type) for each in command.columns},
            "required": [each.name for each in command.columns],
            "additionalProperties": False,
        }
        is_record = issubclass(command, ShowOptions) and not issubclass(command, ListOptions)
        return row if is_record else {"type": "array", "items": row}
    if command.words == ("ct", "exec"):
        return _closed(ExitStatusAnswer)
    return _closed(list[str])


def answer_of_request(request: type[Request]) -> dict[str, Any]:
    return _closed(type(None) if request.answers is None else request.answers)


def _document(title: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"$schema": _DRAFT, "title": title, **schema}


def _closed(kind: Any) -> dict[str, Any]:
    """The schema of a type, in one piece, with no other keys than those that it names."""
    (schema,), parts = msgspec.json.schema_components([kind], ref_template="#/{name}")
    closed = _inlined(schema, parts)
    assert isinstance(closed, dict)
    return closed


def _inlined(node: Any, parts: Mapping[str, Any]) -> Any:
    if isinstance(node, list):
        return [_inlined(each, parts) for each in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(parts[node["$ref"].removeprefix("#/")], parts)
    made = {key: _inlined(value, parts) for key, value in node.items() if key not in ("title", "default")}
    if "properties" in made:
        made["additionalProperties"] = False
    if "description" in made and isinstance(made["description"], str):
        # A docstring: Python takes the indentation away from 3.13 on.
        made["description"] = inspect.cleandoc(made["description"])
    return made
