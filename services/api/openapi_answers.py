"""What every answer in the OpenAPI document has in common: headers, the errors of any body, examples of shapes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from services.api.responses import Json
from services.api.routes.documented import errors, untimely
from services.api.routes.examples import SHAPES

_ERROR: Final = {"$ref": "#/components/schemas/ErrorShape"}
_REF: Final = "#/components/headers/"
_TEXT: Final = {"type": "string"}
_NUMBER: Final = {"type": "integer", "minimum": 0}

HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    "X-Request-ID": {
        "description": "The request's own, or one that was made for it; it is in our logs.",
        "required": True,
        "schema": _TEXT,
    },
    "Retry-After": {"description": "Seconds to wait.", "required": True, "schema": _NUMBER, "example": 5},
    "WWW-Authenticate": {"description": "`Bearer`", "required": True, "schema": _TEXT},
    "Location": {"description": "Where it is, or will be.", "schema": _TEXT},
    "RateLimit-Limit": {"description": "Requests of this key in a minute.", "schema": _NUMBER, "example": 600},
    "RateLimit-Remaining": {"description": "Those that are left now.", "schema": _NUMBER, "example": 599},
    "RateLimit-Reset": {"description": "Seconds until all are there again.", "schema": _NUMBER, "example": 1},
    "RateLimit-Policy": {"description": "The limit.", "schema": _TEXT, "example": '"default";q=600;w=60'},
    "RateLimit": {"description": "What is left of it.", "schema": _TEXT, "example": '"default";r=599;t=1'},
}
"""Those of `RateLimit` are absent where the operator has set no limit."""

_LIMITS: Final = tuple(name for name in HEADERS if name.startswith("RateLimit"))


def finish(document: dict[str, Any]) -> None:
    """Add to each operation what none of the routes has to say by itself."""
    shared = document["components"]
    shared["headers"] = dict(HEADERS)
    shared["examples"] = {name: {"value": value} for name, value in sorted(SHAPES.items())}
    shared["responses"] = {}
    for path in document["paths"].values():
        for method, operation in path.items():
            _finish(method, operation)
            operation["responses"] = _told_once(operation["responses"], shared["responses"])


def _finish(method: str, operation: dict[str, Any]) -> None:
    answers: dict[str, dict[str, Any]] = operation["responses"]
    if method != "get":
        for code, shape in {**errors("PAYLOAD_TOO_LARGE"), **untimely()}.items():
            answers.setdefault(str(code), _as_json(shape))
    for status, answer in answers.items():
        if int(status) >= 400:
            _only_json(answer)
        _show(answer)
        headers = _headers(status, answer, is_authenticated="security" in operation)
        answer["headers"] = {name: {"$ref": _REF + name} for name in headers} | answer.get("headers", {})


def _told_once(answers: Mapping[str, dict[str, Any]], shared: dict[str, Any]) -> dict[str, Any]:
    """The answers in order, with references to the errors, which are nearly the same everywhere.

    An error goes by its status and codes; `shared` are those of the document.
    """
    told: dict[str, Any] = {}
    for status, answer in sorted(answers.items()):
        form = answer.get("content", {}).get(Json.media_type, {})
        if form.get("schema") != _ERROR:
            told[status] = answer
            continue
        name = ".".join((status, *sorted(form["examples"])))
        while shared.setdefault(name, answer) != answer:  # the same errors with other headers
            name += "_"
        told[status] = {"$ref": f"#/components/responses/{name}"}
    return told


def _as_json(answer: Mapping[str, Any]) -> dict[str, Any]:
    """One of `errors`, as the framework would have written it."""
    content = {Json.media_type: {"schema": _ERROR, **answer["content"][Json.media_type]}}
    return {"description": answer["description"], "content": content}


def _only_json(answer: dict[str, Any]) -> None:
    """Errors are JSON, also of routes that answer in another form."""
    forms: dict[str, dict[str, Any]] = answer.get("content", {})
    schemas = [form["schema"] for form in forms.values() if "schema" in form]
    if schemas:
        answer["content"] = {Json.media_type: {"schema": schemas[0], **forms.get(Json.media_type, {})}}


def _show(answer: dict[str, Any]) -> None:
    """An example of the shape, where the route has none of its own."""
    form = answer.get("content", {}).get(Json.media_type, {})
    shape = form.get("schema", {}).get("$ref", "").rpartition("/")[2]
    if shape in SHAPES and "example" not in form and "examples" not in form:
        form["examples"] = {"shown": {"$ref": f"#/components/examples/{shape}"}}


def _headers(status: str, answer: dict[str, Any], *, is_authenticated: bool) -> Iterator[str]:
    yield "X-Request-ID"
    if status in ("429", "503"):
        yield "Retry-After"
    if status == "401":
        yield "WWW-Authenticate"
    elif is_authenticated:
        yield from _LIMITS
    if status in ("201", "202") and "Retry-After" not in answer.get("headers", {}):
        yield "Location"
