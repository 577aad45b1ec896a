"""The store of idempotent requests in memory."""

from services.api.idempotency_store import Answer, Claim


class MemoryIdempotency:
    """`IdempotencyStore` as a dict that forgets nothing by itself."""

    def __init__(self) -> None:
        self.claims: dict[tuple[str, str], Claim] = {}

    async def find(self, team: str, key: str) -> Claim | None:
        return self.claims.get((team, key))

    async def claim(self, team: str, key: str, fingerprint: bytes, plan: bytes) -> Claim:
        held = self.claims.get((team, key))
        self.claims.setdefault((team, key), Claim(fingerprint, plan, None))
        return held or Claim(fingerprint, plan, None, is_new=True)

    async def settle(self, team: str, key: str, fingerprint: bytes, answer: Answer) -> Answer:
        held = self.claims.setdefault((team, key), Claim(fingerprint, None, answer))
        if held.fingerprint != fingerprint:
            return answer
        self.claims[team, key] = Claim(fingerprint, None, held.answer or answer)
        return held.answer or answer

    async def forget(self, team: str, key: str, fingerprint: bytes) -> None:
        held = self.claims.get((team, key))
        if held and held.fingerprint == fingerprint and held.answer is None:
            del self.claims[team, key]
