"""HEAD: what GET would answer, without its body."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Lets routes answer HEAD as they answer GET. What they do after the head of the answer is broken off: a stream
    would go on for as long as the client keeps its connection.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        asked = {**scope, "method": "GET"}
        time = asyncio.timeout(None)

        async def head_only(message: Message) -> None:
            if message["type"] != "http.response.start":
                return
            if "route" in asked:
                scope["route"] = asked["route"]  # for what is counted
            await send(message)
            await send({"type": "http.response.body"})
            time.reschedule(asyncio.get_running_loop().time())

        try:
            async with time:
                await self._app(asked, receive, head_only)
        except TimeoutError:
            if not time.expired():
                raise
