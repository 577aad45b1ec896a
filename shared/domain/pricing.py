"""What an agent costs where the provider reports no cost: minutes times the price of its model."""

from collections.abc import Mapping

DOLLARS_PER_MINUTE: Mapping[str, float] = {
    "claude-4-sonnet-thinking": 0.05,
    "o3": 0.10,
    "claude-4-opus-thinking": 0.20,
}
DEFAULT_DOLLARS_PER_MINUTE = 0.05


def estimated_cost(model: str | None, duration_ms: int, prices: Mapping[str, float] = DOLLARS_PER_MINUTE) -> float:
    """Dollars for `duration_ms` of the model; an unknown or absent model is priced as the cheapest known one."""
    price = prices.get(model or "", DEFAULT_DOLLARS_PER_MINUTE)
    return round(price * duration_ms / 60_000, 6)
