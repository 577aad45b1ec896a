"""What an account, a plan or a model can have against a new agent or a further prompt."""

from deploy.local.simulator.board import Board, Subject
from deploy.local.simulator.errors import ApiError
from deploy.local.simulator.faults import Version

# Not a throttle, though it comes as one: no waiting ends it.
_INCLUDED_USAGE = "You've used all included Cloud Agent usage. Upgrade your plan or enable usage-based pricing."
_BRANCH = "Failed to verify existence of branch. Ensure that the GitHub App has access to the repository."


def refuse_by_switch(board: Board, version: Version, subject: Subject, model: str | None) -> None:
    """Raises:
    ApiError: when one of these faults strikes; those about the model only if the request names one.
    """
    for code in ("usage_limit_exceeded", "plan_required"):
        if board.strikes(code, version, subject):
            raise ApiError(code)
    if board.strikes("included_usage_spent", version, subject):
        raise ApiError("rate_limit_exceeded", _INCLUDED_USAGE, headers={})
    if board.strikes("branch_unverified", version, subject):
        raise ApiError("validation_error", _BRANCH)
    if model is not None and board.strikes("model_gone", version, subject):
        raise ApiError("invalid_model", f"Model '{model}' is not available")
    if model is not None and board.strikes("model_gone_as_validation", version, subject):
        raise ApiError("validation_error", f"Model '{model}' is not available")
    strike = board.strikes("refuse", version, subject)
    if strike is not None and strike.code is not None:
        raise ApiError(strike.code)
