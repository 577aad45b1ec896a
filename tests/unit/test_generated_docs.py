"""The generated pages of docs/ say what the code says; `make docs` writes them anew."""

from pathlib import Path

from services.api.docs import openapi_json
from services.api.fields import fields_page
from services.notifier.docs import public_events_page
from shared.transitions import transitions_page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_openapi_document_is_the_one_that_is_served() -> None:
    assert (DOCS / "openapi.json").read_bytes() == openapi_json(), "run `make docs`"


def test_the_page_of_fields_is_what_is_taken() -> None:
    assert (DOCS / "fields.md").read_text() == fields_page(), "run `make docs`"


def test_the_page_of_public_events_is_the_contract() -> None:
    assert (DOCS / "public-events.md").read_text() == public_events_page(), "run `make docs`"


def test_the_page_of_transitions_is_what_is_decided() -> None:
    assert (DOCS / "transitions.md").read_text() == transitions_page(), "run `make docs`"
