"""Read by schemathesis in its own process: puts ids of what is there into most of the paths, and signs webhooks."""

import hashlib
import hmac
import json
import os
import random
from typing import Any, Final

import requests
import schemathesis
from schemathesis import Case, GenerationMode, HookContext
from schemathesis.core.parameters import ParameterLocation

THINGS: Final = "FUZZ_THINGS"
"""The environment variable with the ids, as JSON."""
_REAL: Final = 0.8
_ENDLESS: Final = "streamOrchestration"
"""With an id of what is there it is answered without end."""

_things: Final[dict[str, list[str]]] = json.loads(os.environ[THINGS])
_chance: Final = random.Random(0)
_WEBHOOK: Final = "receiveWebhook"


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    name = case.operation.definition.raw.get("operationId")
    # What is signed is stored as it came and looked at later, so it must be right if it is to be taken.
    is_right = case.meta is not None and case.meta.generation.mode is GenerationMode.POSITIVE
    if name == _WEBHOOK and is_right and _chance.random() < _REAL:
        _sign(case)
    if name != _ENDLESS and _is_well_formed(case):
        _put_ids(case)


def _put_ids(case: Case[Any]) -> None:
    for name in case.path_parameters:
        known = _things["disposable"] if _deletes_orchestration(case) else _things.get(name)
        if known and _chance.random() < _REAL:
            case.path_parameters[name] = _chance.choice(known)


def _is_well_formed(case: Case[Any]) -> bool:
    """The path is not what is wrong with the request."""
    path = case.meta.components.get(ParameterLocation.PATH) if case.meta else None
    return path is not None and path.mode is GenerationMode.POSITIVE


def _deletes_orchestration(case: Case[Any]) -> bool:
    return case.method == "DELETE" and case.operation.path == "/api/orchestrations/{orchestration_id}"


def _sign(case: Case[Any]) -> None:
    """As the provider would, whatever it sends."""
    wanted = case.as_transport_kwargs(base_url=os.environ["FUZZ_URL"])
    fields = {name: value for name, value in wanted.items() if name in ("method", "url", "json", "data", "headers")}
    sent = requests.Request(**fields).prepare().body or b""
    body = sent.encode() if isinstance(sent, str) else sent
    if isinstance(body, bytes):
        token, secret = _things["webhook"]
        case.query["attempt"] = token
        case.headers["X-Webhook-Signature"] = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
