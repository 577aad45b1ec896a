"""What Postgres can hold: no text there has a NUL, and what is shown is the same whether it went through it or not."""

from typing import Any, Final

import orjson

_NUL: Final = b"\\u0000"


def storable(value: Any) -> Any:
    """The value without NULs in its texts; they may come with a provider's answer, and the log keeps them."""
    return _without_nul(value) if _NUL in orjson.dumps(value) else value


def storable_json(value: Any) -> bytes:
    """The same as JSON."""
    text = orjson.dumps(value)
    return orjson.dumps(_without_nul(value)) if _NUL in text else text


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "")
    if isinstance(value, dict):
        return {_without_nul(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    return value
