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
    return any(_says(message, prompt) for message in messages)


def answered_since(messages: list[Message], prompt: str) -> bool:
    """Whether the agent said anything after the user had said `prompt`."""
    since = next((number for number, message in enumerate(messages) if _says(message, prompt)), len(messages))
    return any(message.author == "assistant" for message in messages[since:])


def _says(message: Message, prompt: str) -> bool:
    return message.author == "user" and " ".join(prompt.split()) in " ".join(message.text.split())
