"""How long what is seen of an agent is not yet taken for the last word on it."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Patience:
    """`result_grace`: after an agent has FINISHED, while branch, pull request, summary or usage may still come.
    `lost_after`: from the first look that did not find an agent to the third, with which it counts as lost."""

    result_grace: timedelta = timedelta(0)
    lost_after: timedelta = timedelta(minutes=5)
