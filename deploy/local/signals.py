"""Ending in order: the first signal asks for it, the second one does not wait."""

import asyncio
import signal
from typing import Any, Final

_NUMBERS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopOnSignal:
    """Use it as `with StopOnSignal(stop) as signals:` in the loop that is to learn of it.

    The first SIGINT, SIGTERM or SIGHUP sets `stop`, and is kept in `number`; a second one ends the process at once.
    Afterwards signals do again what they did before.
    """

    def __init__(self, stop: asyncio.Event) -> None:
        self._stop = stop
        self._loop = asyncio.get_running_loop()
        self._before: dict[signal.Signals, Any] = {}
        self.number: signal.Signals | None = None

    def __enter__(self) -> "StopOnSignal":
        for number in _NUMBERS:
            self._before[number] = signal.getsignal(number) or signal.SIG_DFL
            self._loop.add_signal_handler(number, self._on, number)
        return self

    def __exit__(self, *failure: object) -> None:
        self._set(self._before)

    def _on(self, number: signal.Signals) -> None:
        self.number = number
        self._stop.set()
        # Not what was there before: a KeyboardInterrupt would wait for the clean-up that is being waited for already.
        self._set(dict.fromkeys(_NUMBERS, signal.SIG_DFL))

    def _set(self, handlers: dict[signal.Signals, Any]) -> None:
        for number, handler in handlers.items():
            self._loop.remove_signal_handler(number)
            signal.signal(number, handler)
