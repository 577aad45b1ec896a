"""`python -m services.api.docs FILE` writes the OpenAPI document, for those who generate clients from it."""

import sys
from pathlib import Path
from typing import cast

import orjson

from services.api.app import make_app
from services.api.openapi import document
from services.api.parts import Parts


def openapi_json() -> bytes:
    """The document as it is served at `/openapi.json`, indented."""
    # Nothing of the parts is touched as long as nothing is requested.
    app = make_app(cast(Parts, None))
    return orjson.dumps(document(app), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(openapi_json())
