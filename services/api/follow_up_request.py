"""The request to let an agent go on with a further prompt."""

from typing import Annotated, Any

from pydantic import Field

from services.api.field_types import text
from services.api.problems import InvalidRequestError
from services.api.schemas import Strict, check_part


class FollowUpRequest(Strict):
    """What the agent is to do next."""

    prompt: Annotated[
        str,
        text(1, 5000),
        Field(examples=["Add a test for the empty form, too."]),
    ]
    """In the words of the user; the agent knows what it did before."""


def read_follow_up(body: Any) -> str:
    """The prompt.

    Raises:
        InvalidRequestError: names everything that is wrong.
    """
    request, problems = check_part(FollowUpRequest, body, {})
    if request is None:
        raise InvalidRequestError(problems)
    return request.prompt
