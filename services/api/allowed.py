"""Which methods a path takes, over all routes that have it."""

from fastapi import FastAPI
from fastapi.routing import iter_route_contexts
from starlette.routing import compile_path


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """The methods, sorted. A route whose path is this very text hides those that have a parameter there."""
    by_pattern: dict[str, set[str]] = {}
    for context in iter_route_contexts(app.routes):
        pattern = context.path or ""
        if context.methods and compile_path(pattern)[0].match(path):
            by_pattern.setdefault(pattern, set()).update(context.methods)
    found = by_pattern.get(path) or {method for methods in by_pattern.values() for method in methods}
    return sorted(found | ({"HEAD"} if "GET" in found else set()))
