"""Hides what looks like a secret in the words of an agent: they are shown to people as they come."""

import re
from typing import Final

HIDDEN: Final = "***"

_NAMED: Final = re.compile(
    r"""(?ix)
    ([\w-]* (?:passw(?:or)?d | passphrase | secret | token | credential | (?:api|access|private)[_-]?key)
     [\w-]* ["']? \s* [=:] \s*)
    (?: "[^"]*" | '[^']*' | [^\s"',;]+ )"""
)
_IN_AUTHORIZATION: Final = re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"']+")
_IN_ADDRESS: Final = re.compile(r"(://[^\s:/@]*):[^\s/@]+@")
_KNOWN_FORMS: Final = re.compile(
    r"""(?x)
      gh[pousr]_\w{16,} | github_pat_\w{16,} | glpat-[\w-]{16,}
    | (?:sk|pk|rk)[-_][\w-]{16,} | xox[a-z]-[\w-]{8,} | AKIA[0-9A-Z]{12,} | AIza[\w-]{20,}
    | key_[0-9a-fA-F]{24,} | cop_[\w-]{16,} | whsec_[\w+/=]{16,}
    | eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?
    | -----BEGIN[ ][A-Z ]*PRIVATE[ ]KEY-----.*"""
)
_LONG: Final = re.compile(r"\b(?=[\w+=-]*\d)(?=[\w+=-]*[A-Za-z])[\w+=-]{40,}")
"""Nothing that people read is so long, without a space or slash, and has digits as well as letters."""


def without_secrets(text: str) -> str:
    """The text with `***` for what gives access to something, as far as its form or its name tells."""
    text = _NAMED.sub(rf"\1{HIDDEN}", text)
    text = _IN_AUTHORIZATION.sub(rf"\1 {HIDDEN}", text)
    text = _IN_ADDRESS.sub(rf"\1:{HIDDEN}@", text)
    text = _KNOWN_FORMS.sub(HIDDEN, text)
    return _LONG.sub(HIDDEN, text)
