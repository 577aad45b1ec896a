"""The models on offer: those that the orchestrator knows by name and a few more."""

from dataclasses import dataclass

from deploy.local.simulator.errors import ApiError


@dataclass(frozen=True, slots=True)
class Model:
    id: str
    display_name: str
    aliases: tuple[str, ...] = ()


MODELS = (
    Model("composer-2", "Composer 2", ("composer-latest", "composer")),
    Model("claude-4-sonnet-thinking", "Claude 4 Sonnet (thinking)", ("claude-4-sonnet",)),
    Model("claude-4-opus-thinking", "Claude 4 Opus (thinking)", ("claude-4-opus",)),
    Model("o3", "o3"),
)
# Only the older version lists this word; the newer one wants the field left out.
DEFAULT = "default"

_KNOWN = frozenset(name for model in MODELS for name in (model.id, *model.aliases))


def check_model(name: str) -> None:
    """Raises:
    ApiError: `invalid_model` for a model that is not on offer.
    """
    if name not in _KNOWN:
        raise ApiError("invalid_model", f"Model '{name}' is not available")
