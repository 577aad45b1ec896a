"""Bringing one agent up: by a create, or by a follow-up to an agent that is there; and what is known of either.

Both have the same trouble: an answer that never came does not tell whether the request took effect. What differs is
how that is found out, and whether the request may be sent again.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from shared.cursor.errors import ProviderError
from shared.cursor.provider import AgentRequest, AgentSnapshot, Provider
from shared.cursor.refusals import (
    AGENT_ARCHIVED,
    AGENT_ID_CONFLICT,
    AGENT_NOT_FOUND,
    API_KEY_NOT_FOUND,
    RATE_LIMIT_EXCEEDED,
    cannot_continue,
)
from shared.domain.attempts import AGENT_GONE
from shared.domain.events import Continuation, Failure
from shared.domain.state import Attempt
from shared.ports import Clock

# The provider's clock and ours may differ by this much when what we asked for is searched for.
_CLOCK_MARGIN: Final = timedelta(minutes=5)

_FAILURE_CODES: Final = {
    "repository_access": "INVALID_REPOSITORY",
    "repository_required": "INVALID_REPOSITORY",
    "integration_not_connected": "INVALID_REPOSITORY",
    "invalid_branch_name": "INVALID_REPOSITORY",
    "invalid_model": "INVALID_MODEL",
    "role_forbidden": "FORBIDDEN",
    "service_account_required": "FORBIDDEN",
}
_WAYS_OUT: Final = {
    "QUOTA_EXCEEDED": "the owner of the account at Cursor must raise its plan or limit; then retry the task",
    "INVALID_API_KEY": "set CURSOR_API_KEY to a key that is valid; then retry the task",
    "FORBIDDEN": "set CURSOR_API_KEY to a key that may create agents; then retry the task",
    "INVALID_REPOSITORY": (
        "check how repository and ref are spelled, and that Cursor's GitHub App is installed with access to it"
    ),
    "INVALID_MODEL": "choose one of GET /api/models, or none",
}
_TOO_LATE: Final = Failure(code="TIMEOUT", message="the agent was not created in time", retryable=True)
_NO_TRACE: Final = Failure(
    code="NETWORK_ERROR",
    message="the create was never answered and there is no trace of an agent",
    retryable=True,
)


@dataclass(slots=True)
class Certainty:
    """Whether a request may have taken effect without our knowing.

    Args:
        settle: how long after an unknown outcome a request may still take effect at the provider.
    """

    clock: Clock
    settle: timedelta
    unknown: bool = False
    refusal: Failure | None = None
    """Why the provider will not do it; an earlier request may have been carried out nevertheless."""
    _settled_at: datetime | None = None

    def lose(self) -> None:
        """A request may be on its way."""
        self.unknown, self._settled_at = True, self.clock.now() + self.settle

    def regain(self) -> None:
        """No request can take effect any more."""
        self.unknown, self._settled_at = False, None

    @property
    def is_settled(self) -> bool:
        """Whether it is proof when there is no trace of an effect."""
        return self._settled_at is None or self._settled_at <= self.clock.now()

    def learn(self, error: ProviderError, refusal: Failure) -> None:
        """Take in that a request failed; raises `error` again if it may be sent again by and by."""
        if not error.outcome_known:
            self.lose()
        elif not error.retryable:
            self.refusal = refusal
        if self.refusal is None:
            raise error


@dataclass(frozen=True, slots=True)
class Create:
    """A started attempt whose agent is not known yet, with the request that creates it.

    `is_unwanted`: it is to be stopped, or its time is over: find out whether there is an agent, create none.
    `may_drop_model`: nobody insisted on the model.
    """

    attempt: Attempt
    request: AgentRequest
    is_unwanted: bool
    may_drop_model: bool = False

    async def ask(self, provider: Provider, certainty: Certainty) -> AgentSnapshot | None:
        """Create the agent, or look for it where creating it again could make a second one; None: no trace."""
        # v1 knows the agent by the id in the request: there the same create again makes no second one.
        is_safe = provider.version == "v1" or not certainty.unknown
        if is_safe and not self.is_unwanted and certainty.refusal is None:
            try:
                return await provider.create(self.request)
            except ProviderError as error:
                # Held back, the create cannot tell whether an earlier one took effect; a look can, and may not wait.
                is_held_back = error.code == RATE_LIMIT_EXCEEDED and certainty.unknown
                if is_held_back and (found := await self._find(provider, certainty)):
                    return found
                certainty.learn(error, refused("the agent", error))
        return await self._find(provider, certainty) if certainty.unknown else None

    async def _find(self, provider: Provider, certainty: Certainty) -> AgentSnapshot | None:
        try:
            return await provider.find(self.request, since=asked_since(self.attempt))
        except ProviderError as error:
            if error.code != AGENT_ID_CONFLICT:
                raise
            # Another agent holds our id: what was asked for had no effect, and will have none.
            certainty.refusal = refused("the agent", error)
            certainty.regain()
            return None

    def after_no_trace(self) -> Failure | None:
        """How the attempt ends once it is settled that there is no agent."""
        return _TOO_LATE if self.is_unwanted else _NO_TRACE

    def model_in_the_way(self, failure: Failure) -> str | None:
        """The model that the create was refused for, if it is worth another try without it."""
        is_worth_it = failure.code == "INVALID_MODEL" and self.may_drop_model and not self.is_unwanted
        return self.request.model if is_worth_it else None


@dataclass(frozen=True, slots=True)
class GoOn:
    """A started attempt that continues an agent, with what that is told.

    Args:
        mark: the part of `prompt` that no other prompt of the agent has.
        is_unwanted: as of a `Create`.
        url: where the agent is shown, for the answers of v1 do not tell it again.
    """

    attempt: Attempt
    agent: Continuation
    prompt: str
    mark: str
    is_unwanted: bool
    url: str | None = None

    async def ask(self, provider: Provider, certainty: Certainty) -> AgentSnapshot | None:
        """Send the follow-up, or look whether it took effect where it may have; None: no trace."""
        if self.agent.api_version != provider.version:
            certainty.refusal = _gone(f"it was made with {self.agent.api_version}, this is {provider.version}")
            return None
        if not certainty.unknown and not self.is_unwanted and certainty.refusal is None:
            try:
                return await self._tell(provider)
            except ProviderError as error:
                gone = cannot_continue(error)
                certainty.learn(error, _gone(error.message) if gone else refused("the follow-up", error))
        return await self._look(provider, certainty) if certainty.unknown else None

    async def _tell(self, provider: Provider) -> AgentSnapshot:
        """Send the follow-up; an archived agent is brought back first, for it is wanted again."""
        try:
            return await provider.follow_up(self.agent.agent_id, self.prompt, after_run=self.agent.run_id)
        except ProviderError as error:
            if error.code != AGENT_ARCHIVED or not await _is_brought_back(provider, self.agent.agent_id):
                raise
        return await provider.follow_up(self.agent.agent_id, self.prompt, after_run=self.agent.run_id)

    async def _look(self, provider: Provider, certainty: Certainty) -> AgentSnapshot | None:
        since, run_id = asked_since(self.attempt), self.agent.run_id
        try:
            return await provider.find_follow_up(self.agent.agent_id, self.mark, after_run=run_id, since=since)
        except ProviderError as error:
            if error.code != AGENT_NOT_FOUND:
                raise
            # An agent that is not there does nothing, whatever it was asked for.
            certainty.refusal = _gone(error.message)
            certainty.regain()
            return None

    def after_no_trace(self) -> Failure | None:
        """How the attempt ends once it is settled that the follow-up had no effect; None: it may be sent again."""
        return _TOO_LATE if self.is_unwanted else None


async def _is_brought_back(provider: Provider, agent_id: str) -> bool:
    """Whether an archived agent takes prompts again; False where the provider will not have it.

    Raises:
        ProviderError: it is to be tried again. Whatever became of it, the agent was told nothing.
    """
    try:
        await provider.unarchive(agent_id)
    except ProviderError as error:
        if error.outcome_known and not error.retryable:
            return False
        raise ProviderError(
            error.code, error.message, status=error.status, retryable=True, retry_after=error.retry_after
        ) from error
    return True


def asked_since(attempt: Attempt) -> datetime:
    """A time, by the provider's clock, before which nothing was asked for this attempt."""
    return (attempt.started_at or attempt.queued_at) - _CLOCK_MARGIN


def refused(what: str, error: ProviderError) -> Failure:
    """The failure that a refusal means, with what can be done about it."""
    code = _FAILURE_CODES.get(error.code, "CURSOR_API_ERROR")
    if error.billing:
        code = "QUOTA_EXCEEDED"
    elif error.status == 401 or error.code == API_KEY_NOT_FOUND:
        code = "INVALID_API_KEY"
    message = f"the provider refused {what}: {error.message}"
    return Failure(code=code, message=f"{message}; {_WAYS_OUT[code]}" if code in _WAYS_OUT else message)


def _gone(reason: str) -> Failure:
    return Failure(code=AGENT_GONE, message=f"the agent cannot be continued: {reason}")
