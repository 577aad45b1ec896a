"""Fields of requests as they are written on a command line. Everything here raises UsageError."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cli.errors import UsageError


def task(text: str) -> dict[str, str]:
    """`TITLE: DESCRIPTION`."""
    title, colon, description = text.partition(": ")
    if not colon:
        raise UsageError(f"task {text!r}: a title, a colon, a space, a description")
    return {"title": title.strip(), "description": description.strip()}


def given(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Those that were given: an option that was not is None, or an empty list."""
    return {name: value for name, value in fields.items() if value not in (None, [])}


def changes(
    options: Mapping[str, Any], settings: Sequence[str] | None, cleared: Sequence[str] | None
) -> dict[str, Any]:
    """What to change: from options, from `field=value`s with JSON or plain text, and from names of fields to clear."""
    fields = given(options)
    for name, value in (_setting(text) for text in settings or ()):
        _put(fields, name, value)
    for name in cleared or ():
        _put(fields, name, None)
    if not fields:
        raise UsageError("nothing to change: name at least one field")
    return fields


def _setting(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--set {text!r}: a field, =, and its value as JSON or plain text")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _put(fields: dict[str, Any], name: str, value: Any) -> None:
    if name in fields:
        raise UsageError(f"{name} is given twice")
    fields[name] = value
