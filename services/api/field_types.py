"""What one field of a request may hold: types with their rules, which say what is wrong in words for people."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Final
from zoneinfo import available_timezones

import orjson
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError, PydanticKnownError

from services.api import rules
from services.api.cron import cron_line

_METADATA_BYTES: Final = 16 * 1024


def _refuse(error: ValueError) -> PydanticCustomError:
    # The rule's text goes through as it is: braces in it are no placeholders.
    return PydanticCustomError("rule", "{reason}", {"reason": str(error)})


def _repository(value: str) -> str:
    try:
        return rules.repository(value)
    except ValueError as exc:
        raise _refuse(exc) from None


def _ref(value: str) -> str:
    try:
        return rules.git_ref(value)
    except ValueError as exc:
        raise _refuse(exc) from None


def _webhook_url(value: str, info: ValidationInfo) -> str:
    allow_private = bool((info.context or {}).get("allow_private_webhooks"))
    try:
        return rules.webhook_url(value, allow_private=allow_private)
    except ValueError as exc:
        raise _refuse(exc) from None


def _moment(value: object) -> datetime:
    if not isinstance(value, str):
        raise PydanticCustomError("rule", "must be a string with a time in ISO 8601")
    try:
        return rules.moment(value)
    except ValueError as exc:
        raise _refuse(exc) from None


def _cron(value: str) -> str:
    try:
        return cron_line(value)
    except ValueError as exc:
        raise _refuse(exc) from None


def _timezone(value: str) -> str:
    if value not in available_timezones():
        raise PydanticCustomError("rule", "is not the name of a time zone, such as Europe/Berlin")
    return value


def _metadata(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    if len(orjson.dumps(value)) > _METADATA_BYTES:
        raise PydanticCustomError("rule", "must have at most 16 KiB as JSON")
    return value


class _Text(StringConstraints):
    """Without blanks around it. What is too long with them is refused, too, as any reader of the document expects."""

    def __iter__(self) -> Iterator[Any]:
        yield from super().__iter__()
        yield BeforeValidator(self._not_longer)

    def _not_longer(self, value: object) -> object:
        if isinstance(value, str) and self.max_length is not None and len(value) > self.max_length:
            raise PydanticKnownError("string_too_long", {"max_length": self.max_length})
        return value


def text(shortest: int, longest: int) -> StringConstraints:
    """For texts of people, of so many characters."""
    return _Text(strip_whitespace=True, min_length=shortest, max_length=longest)


Repository = Annotated[str, AfterValidator(_repository), Field(examples=["acme/shop", "https://github.com/acme/shop"])]
Ref = Annotated[str, AfterValidator(_ref)]
WebhookUrl = Annotated[str, AfterValidator(_webhook_url), WithJsonSchema({"type": "string", "format": "uri"})]
Moment = Annotated[datetime, BeforeValidator(_moment), WithJsonSchema({"type": "string", "format": "date-time"})]
ModelName = Annotated[str, text(1, 100)]
Tag = Annotated[str, text(1, 64)]
Metadata = Annotated[dict[str, JsonValue], AfterValidator(_metadata)]
CronLine = Annotated[str, AfterValidator(_cron)]
TimeZone = Annotated[str, AfterValidator(_timezone)]
