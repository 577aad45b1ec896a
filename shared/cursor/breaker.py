"""The breaker: a provider that fails is left alone for a while, then asked by one call at a time whether it is well."""

import logging
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from shared.cursor.errors import ProviderError
from shared.cursor.refusals import PROVIDER_UNAVAILABLE
from shared.cursor.transport import NETWORK_ERROR, TIMEOUT

_log = logging.getLogger(__name__)

_FAILURES: Final = 5
_SECONDS: Final = 30.0
# Of the time that it is left alone: over so long those that were refused come again, lest all do at one moment.
_SPREAD: Final = 0.25


def is_outage(error: ProviderError) -> bool:
    """Whether the provider did not answer, or failed; whatever else it answers, it is there."""
    failed = error.code in (TIMEOUT, NETWORK_ERROR) or (error.status or 0) >= 500
    return failed and error.retryable


@dataclass(eq=False, slots=True)
class Call:
    """A call that was let through. `era`: how often the breaker had closed by then."""

    era: int
    is_told: bool = False
    """Whether it has been counted; what comes later says nothing new."""


class Breaker:
    """Of all calls of one process with one account.

    Five failures in a row open it, and no call leaves. After `seconds` one does, as a trial: any answer closes the
    breaker, another failure leaves the provider alone for as long again. A create may take a minute though all is
    well, so a trial that is under way for longer than that makes room for the next. Calls that had left when it opened
    close it if they are answered; their failures are no news.

    Args:
        now: seconds that only grow.
    """

    def __init__(
        self,
        seconds: float = _SECONDS,
        *,
        now: Callable[[], float] = time.monotonic,
        chance: random.Random | None = None,
    ) -> None:
        self._seconds = seconds
        self._now = now
        self._chance = chance or random.Random()
        self._failures = 0
        self._era = 0
        self._again_at: float | None = None
        """From when on a call is let through, None for any."""
        self._trial: Call | None = None

    @property
    def is_open(self) -> bool:
        return self._again_at is not None

    @property
    def wait(self) -> float:
        """Seconds until it is worth asking again, 0 if a call would be let through now."""
        left = 0.0 if self._again_at is None else max(0.0, self._again_at - self._now())
        # A trial is mostly answered within a moment.
        return left if self._trial is None else min(left, self._seconds * _SPREAD)

    def check(self) -> None:
        """Raise what `call` would; lets nothing through.

        Raises:
            ProviderError: `provider_unavailable`, with how long to wait; no call may be made.
        """
        if (wait := self.wait) > 0:
            again = wait + self._chance.random() * self._seconds * _SPREAD
            message = "the provider failed several times in a row and is left alone for a while"
            raise ProviderError(PROVIDER_UNAVAILABLE, message, retryable=True, retry_after=again)

    @contextmanager
    def call(self) -> Iterator[Call]:
        """For one call inside, which raises ProviderError if it fails; raises what `check` does."""
        call = self._let_through()
        try:
            yield call
        except ProviderError as error:
            if is_outage(error):
                self._failed(call, error)
            else:
                self.answered(call)
            raise
        else:
            self.answered(call)
        finally:
            self._left(call)

    def answered(self, call: Call) -> None:
        """The provider is there; for a call that tells so before its end."""
        if call.is_told:
            return
        call.is_told = True
        self._failures = 0
        if self.is_open:
            self._again_at = self._trial = None
            self._era += 1
            _log.warning("The provider answers again")

    def _let_through(self) -> Call:
        self.check()
        call = Call(self._era)
        if self.is_open:
            self._trial, self._again_at = call, self._now() + self._seconds
        return call

    def _failed(self, call: Call, error: ProviderError) -> None:
        if call.is_told:
            return
        call.is_told = True
        if self.is_open:
            if call is self._trial:
                self._trial, self._again_at = None, self._now() + self._seconds
        elif call.era == self._era:
            self._failures += 1
            if self._failures >= _FAILURES:
                self._again_at = self._now() + self._seconds
                message = "The provider failed %d times in a row and is left alone for %g s at a time: %s"
                _log.error(message, self._failures, self._seconds, error, extra={"code": error.code})

    def _left(self, call: Call) -> None:
        """A trial that was given up tells nothing; the next call may be one."""
        if call is self._trial and not call.is_told:
            self._trial, self._again_at = None, self._now()
