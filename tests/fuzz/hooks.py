"""Read by schemathesis in its own process: puts ids of what is there into most of the paths."""

import json
import os
import random
from typing import Any, Final

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


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, Any]) -> None:
    if not _is_well_formed(case) or case.operation.definition.raw.get("operationId") == _ENDLESS:
        return
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
