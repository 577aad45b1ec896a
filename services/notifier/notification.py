"""The message of DELIVERIES: one event to be told to one receiver."""

from datetime import datetime
from typing import Self

from pydantic import BaseModel, ConfigDict

from shared.domain.ids import derive_id


class Notification(BaseModel):
    """`delivery_id` is the same for the same event and address, however often either is seen."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)

    delivery_id: str
    team: str
    orchestration_id: str
    event_type: str
    event_id: str
    sequence: int
    """Place in the log of the commit that holds the event."""
    occurred_at: datetime
    url: str
    redelivered_at: datetime | None = None
    """When it was asked for once more by hand; its tries are counted from there."""

    def encode(self) -> bytes:
        return self.model_dump_json().encode()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Raises ValueError when it is not one."""
        return cls.model_validate_json(data)


def delivery_id(event_id: str, url: str) -> str:
    return derive_id("delivery", event_id, url)
