"""The work queues of tickets and watched agents, in memory."""

from collections.abc import Mapping

from shared.jetstream.errors import AlreadyThereError
from shared.jetstream.publish import Ack
from shared.memory import MemoryPublisher


class OnePerSubject(MemoryPublisher):
    """As the queues of tickets and watched agents: one message a subject."""

    async def publish(
        self,
        subject: str,
        data: bytes,
        *,
        stream: str,
        msg_id: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Ack:
        if self.on(subject):
            raise AlreadyThereError(subject)
        return await super().publish(subject, data, stream=stream, msg_id=msg_id, headers=headers)
