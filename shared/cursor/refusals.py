"""From the provider's error answers, in their several shapes, to `ProviderError`."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from http import HTTPStatus

from shared.cursor import answers
from shared.cursor.errors import ProviderError
from shared.retry_after import retry_after

UNKNOWN = "unknown"
API_KEY_NOT_FOUND = "api_key_not_found"
AGENT_NOT_FOUND = "agent_not_found"
RUN_NOT_FOUND = "run_not_found"
ARTIFACT_NOT_FOUND = "artifact_not_found"
AGENT_ARCHIVED = "agent_archived"
AGENT_BUSY = "agent_busy"
AGENT_ID_CONFLICT = "agent_id_conflict"
RUN_NOT_CANCELLABLE = "run_not_cancellable"
FEATURE_UNAVAILABLE = "feature_unavailable"
RATE_LIMIT_EXCEEDED = "rate_limit_exceeded"
USAGE_LIMIT_EXCEEDED = "usage_limit_exceeded"
STREAM_EXPIRED = "stream_expired"
PROVIDER_UNAVAILABLE = "provider_unavailable"
"""Ours: the breaker is open, the call did not leave."""

RETRY_AFTER_LIMIT = 15 * 60.0  # seconds; a wait that is longer is somebody's mistake, and asking again is cheap
_MESSAGE_LIMIT = 500

_CODE = re.compile(r"[a-z][a-z0-9_]{1,63}")
# "error" as a code is what the live service says when it has none; of the others one says but the status once more.
_NO_CODES = frozenset({"error", *(status.phrase.lower() for status in HTTPStatus)})
_BY_STATUS = {401: "unauthorized", 429: RATE_LIMIT_EXCEEDED}
_NOT_FOUND = frozenset({AGENT_NOT_FOUND, RUN_NOT_FOUND, ARTIFACT_NOT_FOUND, API_KEY_NOT_FOUND})
_BILLING_CODES = frozenset({USAGE_LIMIT_EXCEEDED, "plan_required"})
# The first is said of an account, never of a throttle; the wide one counts where no throttle is meant.
_BILLING_TEXT = re.compile(r"used all (?:of )?(?:your )?included|usage.based pricing", re.IGNORECASE)
_BILLING_TEXT_WIDE = re.compile(
    r"usage limit|spend(?:ing)? limit|upgrade your plan|your plan does not include", re.IGNORECASE
)
_MODEL = re.compile(r"\bmodels?\b", re.IGNORECASE)
_NO_ACCESS = "failed to verify existence of branch"
_NO_ACCESS_HINT = "usually the provider's GitHub App has no access to the repository"
_PASSING = frozenset({"stream_unavailable", "upstream_error", "internal_error", RATE_LIMIT_EXCEEDED, AGENT_BUSY})
# Of a follow-up. 400: which agents v0 refuses to continue, and how, is not documented.
_NO_FOLLOW_UP = frozenset({400, 404, 409, 410})


def refusal(
    status: int,
    raw: bytes,
    headers: Mapping[str, str],
    *,
    missing: str = UNKNOWN,
    gone: str = UNKNOWN,
    changes: bool = False,
    now: datetime,
) -> ProviderError:
    """The error that an answer other than 2xx stands for.

    Args:
        raw: its body, which may be anything.
        missing, gone: the code of a 404, and of a 410, that names none.
        changes: the call was to change something, so that a 5xx leaves open whether it did.
        now: against which a `Retry-After` that is a date is measured.
    """
    code, message = _read(raw)
    code, hint = _named(status, code, message, missing, gone)
    billing = _is_billing(status, code, message)
    if billing and code in (UNKNOWN, RATE_LIMIT_EXCEEDED):
        code = USAGE_LIMIT_EXCEEDED
    return ProviderError(
        code,
        f"{message or f'HTTP {status}'}{hint}",
        status=status,
        retryable=not billing and _is_retryable(status, code),
        outcome_known=not changes or _is_final(status, code),
        retry_after=None if billing else retry_after(headers.get("retry-after"), now, most=RETRY_AFTER_LIMIT),
        billing=billing,
    )


def cannot_continue(error: ProviderError) -> bool:
    """Whether a refused follow-up says that this agent takes no further prompt, now or later.

    Archived, deleted, expired: whatever it is, a new agent may be made for the work; should something else be
    wrong with the request, the create of that one is refused for the same reason.
    """
    if error.code == API_KEY_NOT_FOUND:
        return False
    return error.status in _NO_FOLLOW_UP and error.outcome_known and not error.retryable and not error.billing


def is_conflict(error: ProviderError, code: str) -> bool:
    """Whether a refusal is the 409 of this code: by its name, or by its status where it names none. A call has but one
    that it is likely to meet."""
    return error.code == code or (error.status == 409 and error.code == UNKNOWN)


def is_gone(error: ProviderError) -> bool:
    """Whether the provider says that there is no such agent, or no such run of it. Not every 404 does: a key that was
    deleted is not found either, and says nothing of the agents."""
    return error.status in (404, 410) and error.code in (AGENT_NOT_FOUND, RUN_NOT_FOUND)


@contextmanager
def gone_is_fine() -> Iterator[None]:
    """For a delete: what is not there has been deleted."""
    try:
        yield
    except ProviderError as error:
        if not is_gone(error) and error.status != 410:
            raise


def stream_failure(data: Mapping[str, object]) -> ProviderError:
    """The error that an `error` event of a stream stands for; it says nothing about the run itself."""
    code, message = _fields(data)
    return ProviderError(code, message or "the stream ended with an error", retryable=code in _PASSING)


def _read(raw: bytes) -> tuple[str, str]:
    """Code and message of a body: an object under `error`, an object, a text, or no JSON at all."""
    try:
        body = answers.parse(raw)
    except ValueError:
        return UNKNOWN, _shown(raw[: 4 * _MESSAGE_LIMIT].decode("utf-8", "replace"))
    match body:
        case {"error": dict(inner)}:
            return _fields(inner)
        case dict():
            return _fields(body)
        case str():
            return UNKNOWN, _shown(body)
    return UNKNOWN, ""


def _fields(body: Mapping[str, object]) -> tuple[str, str]:
    inner = body.get("error")
    if isinstance(inner, dict):
        body = inner
    texts = {key: value for key, value in body.items() if isinstance(value, str)}
    named = (texts.get(key, "").strip().lower() for key in ("code", "error"))
    code = next((word for word in named if _CODE.fullmatch(word) and word not in _NO_CODES), UNKNOWN)
    said = (texts.get(key, "") for key in ("message", "error", "detail"))
    message = _shown(next((text for text in said if text.strip()), ""))
    help_url = answers.optional_url(body, "helpUrl")
    return code, f"{message} (see {help_url})" if help_url else message


def _shown(text: str) -> str:
    """One line of printable text of a length that can be shown and logged."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 4 * _MESSAGE_LIMIT]).split())
    return line if len(line) <= _MESSAGE_LIMIT else line[: _MESSAGE_LIMIT - 1] + "…"


def _named(status: int, code: str, message: str, missing: str, gone: str) -> tuple[str, str]:
    """The code that says what it is about, and a hint for the reader where the message itself misleads."""
    if status < 400:
        return UNKNOWN, " (a redirection; is the address of the API right?)"
    if _NO_ACCESS in message.lower():
        return "repository_access", f" ({_NO_ACCESS_HINT})"
    if status == 400 and code in ("validation_error", UNKNOWN) and _MODEL.search(message):
        return "invalid_model", ""
    if status == 404:
        return (code if code in _NOT_FOUND else missing), ""
    if status == 410 and code == UNKNOWN:
        return gone, ""
    return (_BY_STATUS.get(status, UNKNOWN) if code == UNKNOWN else code), ""


def _is_billing(status: int, code: str, message: str) -> bool:
    if status == 402 or code in _BILLING_CODES:
        return True
    if status not in (400, 403, 429):
        return False
    return bool(_BILLING_TEXT.search(message) or (status != 429 and _BILLING_TEXT_WIDE.search(message)))


def _is_retryable(status: int, code: str) -> bool:
    if status == 409:
        return code == AGENT_BUSY
    return status in (408, 425, 429) or (status >= 500 and code != "not_implemented")


def _is_final(status: int, code: str) -> bool:
    """Whether the answer says for certain that the call had no effect."""
    return (400 <= status < 500 and status != 408) or code == "not_implemented"
