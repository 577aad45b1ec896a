"""The one table of event types: name and version on the wire to the class that reads it."""

from typing import Any, get_args

from shared.domain.events import OrchestrationEvent


class UnknownEventError(Exception):
    """The log holds an event of a type or version that this release does not know; a newer release wrote it."""


AnyEvent = OrchestrationEvent

CATALOGUE: dict[tuple[str, int], type[AnyEvent]] = {(cls.type, cls.schema_version): cls for cls in get_args(AnyEvent)}


def decode_event(type_: str, version: int, data: dict[str, Any]) -> AnyEvent:
    """Build the event from its wire form.

    Raises:
        UnknownEventError: the type or its version is not in the catalogue.
    """
    cls = CATALOGUE.get((type_, version))
    if cls is None:
        raise UnknownEventError(f"{type_}.v{version}")
    return cls.model_validate(data)
