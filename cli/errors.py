"""Why a command ends without having done its work, each with its exit code."""

from dataclasses import dataclass
from enum import IntEnum


class ExitCode(IntEnum):
    """What a shell sees. An orchestration that ended PARTIAL_COMPLETED counts as fine."""

    FINE = 0
    ENDED_BADLY = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    INTERRUPTED = 130
    TERMINATED = 143


class CliError(Exception):
    """Ends the command; the message is for people and says the way out where there is one."""

    exit_code = ExitCode.ENDED_BADLY


class StackFailedError(CliError):
    """The system on this machine did not start, or got stuck."""


class UsageError(CliError):
    """A wrong option, file or setting."""

    exit_code = ExitCode.USAGE


class UnreachableError(CliError):
    """No answer from the API, or one that only something else can have given.

    Args:
        may_be_done: the request may have arrived, so that what was asked for may still happen.
        connected: there was somebody to ask.
    """

    exit_code = ExitCode.UNREACHABLE

    def __init__(self, message: str, *, may_be_done: bool = False, connected: bool = True) -> None:
        super().__init__(message)
        self.may_be_done = may_be_done
        self.connected = connected


@dataclass(frozen=True, slots=True)
class BadField:
    """One field of the request that the API refused, by its path, such as `tasks.1.title`."""

    name: str
    message: str


class RefusedError(CliError):
    """The API's own refusal.

    Args:
        status: of HTTP.
        code: one of the product's error codes; `HTTP_<status>` where the answer has none.
        message: the API's words for people.
        fields: each field that was refused.
        request_id: by which the operator finds the request in the logs.
        retry_after: seconds that the API asks to wait, None when it does not say.
        outcome: `not sent` or `unknown`, where the API says what became of a request that failed.
    """

    exit_code = ExitCode.REFUSED

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        fields: tuple[BadField, ...] = (),
        request_id: str | None = None,
        retry_after: float | None = None,
        outcome: str | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.status = status
        self.code = code
        self.message = message
        self.fields = fields
        self.request_id = request_id
        self.retry_after = retry_after
        self.outcome = outcome

    @property
    def is_passing(self) -> bool:
        """Whether the same request may well be taken a little later."""
        return self.status == 429 or self.status >= 500
