"""The real clock and real ids."""

import uuid
from datetime import UTC, datetime


class SystemClock:
    """`Clock` of this machine."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class RandomIds:
    """`Ids` that nobody can guess and that never repeat."""

    def new(self) -> str:
        return str(uuid.uuid4())
