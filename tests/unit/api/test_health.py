"""What is told of the provider to whoever asks how the api is."""

from services.api.health import ProviderCheck
from shared.cursor.errors import ProviderError
from shared.cursor.provider import Account
from shared.observability.health import Check


class Provider:
    def __init__(self) -> None:
        self.failure: ProviderError | None = None
        self.asked = 0

    async def me(self) -> Account:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return Account("key")


async def test_a_provider_that_takes_our_key_is_asked_again_after_a_while_only() -> None:
    provider, now = Provider(), 0.0
    check = ProviderCheck(provider.me, now=lambda: now)
    assert [await check.check(), await check.check()] == [Check(True)] * 2
    assert provider.asked == 1
    provider.failure, now = ProviderError("unauthorized", "no"), 31.0
    assert not (await check.check()).ok
    assert provider.asked == 2


async def test_of_one_that_does_not_only_the_code_is_told_for_anybody_may_ask() -> None:
    provider = Provider()
    provider.failure = ProviderError("network_error", "ConnectError in me: cannot connect to 10.0.0.7:8443")
    told = await ProviderCheck(provider.me).check()
    assert told == Check(False, "does not answer as it should (network_error)")
