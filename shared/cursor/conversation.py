"""What was said between a user and an agent; both versions of the API read it from the same place."""

from typing import Literal
from urllib.parse import quote

from shared.cursor import answers
from shared.cursor.http import CursorHttp
from shared.cursor.provider import Message
from shared.cursor.refusals import AGENT_NOT_FOUND

_AUTHORS: dict[object, Literal["user", "assistant"]] = {
    "user_message": "user",
    "assistant_message": "assistant",
}


async def read_conversation(http: CursorHttp, agent_id: str) -> list[Message]:
    """The messages, oldest first, long ones cut; kinds other than user's and assistant's are left out."""
    answer = await http.get(
        f"/v0/agents/{quote(agent_id, safe='')}/conversation",
        endpoint="conversation",
        missing=AGENT_NOT_FOUND,
    )
    return [
        Message(
            id=answers.identifier(item, "id"),
            author=author,
            text=answers.optional_text(item, "text", answers.MESSAGE_LIMIT) or "",
        )
        for item in answers.children(answer, "messages")
        if (author := _AUTHORS.get(str(item.get("type")))) is not None
    ]


def was_told(messages: list[Message], prompt: str) -> bool:
    """Whether the user said `prompt`, whatever the provider put around it and however it treats spaces."""
    wanted = " ".join(prompt.split())
    return any(wanted in " ".join(message.text.split()) for message in messages if message.author == "user")
