"""What is wrong with a request, field by field."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

Code = Literal["MISSING_REQUIRED_FIELD", "INVALID_REPOSITORY", "INVALID_TASK", "INVALID_MODEL", "INVALID_REQUEST"]

_MOST_NAMED: Final = 100
_LONGEST_NAME: Final = 200
_SHOULD: Final = re.compile(r"^\w+ should ")
_REPOSITORY: Final = re.compile(r"repository|repositories\[[0-9]+\](\.repository)?")


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `field` is where, in the request's own spelling: `tasks[1].title`."""

    field: str
    message: str
    code: Code


class InvalidRequestError(Exception):
    """The request breaks rules; `problems` holds every one of them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(f"{len(problems)} problems")
        self.problems = problems

    @property
    def code(self) -> Code:
        """The code that all problems share; INVALID_REQUEST for a mixture."""
        codes = {problem.code for problem in self.problems}
        if len(codes) > 1:
            # A task that lacks a field besides other problems is a task that is wrong.
            codes = {_broader(problem) for problem in self.problems}
        return codes.pop() if len(codes) == 1 else "INVALID_REQUEST"

    @property
    def message(self) -> str:
        first = self.problems[0]
        if len(self.problems) == 1:
            return f"{first.field}: {first.message}"
        return f"{len(self.problems)} fields are wrong, the first is {first.field}: {first.message}"

    @property
    def metadata(self) -> dict[str, object]:
        named = self.problems[:_MOST_NAMED]
        fields = [{"field": problem.field, "message": problem.message} for problem in named]
        more = len(self.problems) - len(named)
        return {"fields": fields, **({"furtherFields": more} if more else {})}


def _broader(problem: Problem) -> Code:
    return code_for(problem.field) if problem.code == "MISSING_REQUIRED_FIELD" else problem.code


def code_for(field: str) -> Code:
    """The code of a wrong value at `field`."""
    if field.startswith("tasks["):
        return "INVALID_TASK"
    return "INVALID_REPOSITORY" if _REPOSITORY.fullmatch(field) else "INVALID_REQUEST"


def problem(field: str, message: str) -> Problem:
    return Problem(field, message, code_for(field))


def sentence(message: str) -> str:
    """What pydantic says of a value, to go on from the field's name: `limit: must be …`."""
    said = _SHOULD.sub("must ", message, count=1).replace(" after validation", "")
    return said[0].lower() + said[1:]


def path(parts: Iterable[str | int]) -> str:
    """`("tasks", 1, "title")` as `tasks[1].title`; `body` for the whole."""
    text = ""
    for part in parts:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text[:_LONGEST_NAME] or "body"
