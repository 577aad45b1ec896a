"""The OpenAPI document: what FastAPI finds out by itself, and the bodies that are read by hand."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.api.follow_up_request import FollowUpRequest
from services.api.keys_request import KeyRequest
from services.api.openapi_answers import finish
from services.api.patches import OrchestrationPatch, PauseRequest, TaskPatch
from services.api.schemas import BulkRepository, BulkRequest, CreateRequest
from services.api.sweeps import SweepOrder

_TAGS = [
    {"name": "orchestrations", "description": "Programmes of coding work on cloud agents."},
    {"name": "tasks", "description": "The single pieces of work of an orchestration."},
    {"name": "agents", "description": "The provider's agents, each at work for one attempt at a time."},
    {"name": "history", "description": "What has happened to an orchestration."},
    {"name": "catalogue", "description": "What can be asked for, and what it has cost."},
    {"name": "live", "description": "Changes as they happen."},
    {"name": "queue", "description": "What waits, and why."},
    {"name": "deliveries", "description": "What became of notifications."},
    {"name": "keys", "description": "Who may ask, for what, and how long."},
    {"name": "webhook", "description": "For the provider of the agents."},
    {"name": "health", "description": "For operators."},
]


def document(app: FastAPI) -> dict[str, Any]:
    """Built once for each application."""
    if app.openapi_schema is None:
        schema = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=_TAGS
        )
        schemas = schema.setdefault("components", {}).setdefault("schemas", {})
        for model in (
            CreateRequest,
            BulkRepository,
            BulkRequest,
            KeyRequest,
            OrchestrationPatch,
            TaskPatch,
            PauseRequest,
            FollowUpRequest,
            SweepOrder,
        ):
            request = model.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas.update(request.pop("$defs", {}))
            schemas[model.__name__] = request
        for unused in ("HTTPValidationError", "ValidationError"):
            schemas.pop(unused, None)
        _drop_framework_errors(schema["paths"])
        finish(schema)
        app.openapi_schema = schema
    return app.openapi_schema


def _drop_framework_errors(paths: dict[str, Any]) -> None:
    """The framework announces 422 for wrong parameters; here they are answered 400 like everything else."""
    for path in paths.values():
        for operation in path.values():
            answer = operation["responses"].get("422", {})
            if "HTTPValidationError" in str(answer):
                del operation["responses"]["422"]
