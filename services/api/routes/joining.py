"""What the two routes of live updates share: where to begin, joining, and looking at the key again."""

from typing import Final

from starlette.requests import HTTPConnection

from services.api.auth import Gate, Principal, presented_key
from services.api.errors import ApiError, not_found, unavailable
from services.api.listener import Listener
from services.api.live import BadResumeError, HubClosedError, TooManyStreamsError, UnknownOrchestrationError
from services.api.parts import Parts
from services.api.problems import InvalidRequestError, problem
from services.api.telling import Pace, Permit

_LONGEST: Final = 19  # digits that fit into 64 bits


def sequence(field: str, text: str | None) -> int | None:
    """The sequence that a client names, None if it names none.

    Raises:
        InvalidRequestError: it is not a number.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _LONGEST):
        raise InvalidRequestError([problem(field, "must be the id of an earlier message")])
    return int(text)


async def join(parts: Parts, team: str, orchestration_id: str, after: int | None) -> Listener:
    """A listener of the orchestration; give it back to the hub.

    Raises:
        ApiError: 404, 429 (the team has too many streams), 503 (this process takes no more, or none now).
        InvalidRequestError: nobody can have been told of `after`.
    """
    try:
        return await parts.hub.join(team, orchestration_id, after=after)
    except UnknownOrchestrationError:
        raise not_found() from None
    except BadResumeError as exc:
        raise InvalidRequestError([problem("after", str(exc))]) from None
    except HubClosedError:
        raise unavailable("live updates are not available here at the moment") from None
    except TooManyStreamsError as exc:
        code = "RATE_LIMIT_EXCEEDED" if exc.of_team else "SERVICE_UNAVAILABLE"
        raise ApiError(code, f"{exc}; close some, or try again later") from None


def permit(connection: HTTPConnection, principal: Principal, parts: Parts) -> Permit:
    """Whether the key that opened the connection still does."""
    key = presented_key(connection) or b""
    gate: Gate = parts.access.gate

    async def check() -> None:
        # Not counted as a request: the client asks for nothing.
        now = await gate.identify(key)
        if now.team != principal.team or "orchestrations:read" not in now.permissions:
            raise ApiError("FORBIDDEN", "the API key no longer opens this stream")

    return Permit(check, pace(parts))


def pace(parts: Parts) -> Pace:
    """How often what is done on a stream."""
    settings = parts.settings
    return Pace(
        heartbeat=settings.heartbeat_seconds,
        idle_after_end=settings.idle_after_end_seconds,
        check=settings.check_key_seconds,
        send=settings.stream_send_seconds,
    )
