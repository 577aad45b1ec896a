"""What failures look like from outside."""

import psycopg
import pytest

from services.api.errors import error_response, translate
from services.api.problems import sentence
from shared.jetstream.errors import PublishRefusedError, PublishUnavailableError, StreamFullError
from shared.ports import LogFullError, LogUnavailableError
from shared.postgres.pool import DatabaseStalledError


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (DatabaseStalledError("host=db"), 503, "SERVICE_UNAVAILABLE"),
        (psycopg.OperationalError("host=db"), 503, "SERVICE_UNAVAILABLE"),
        (psycopg.errors.UndefinedTable("host=db"), 500, "DATABASE_ERROR"),
        (PublishUnavailableError("host=db"), 503, "SERVICE_UNAVAILABLE"),
        (StreamFullError("host=db"), 503, "SERVICE_UNAVAILABLE"),
        (PublishRefusedError("host=db"), 500, "QUEUE_ERROR"),
        (LogFullError("host=db"), 503, "SERVICE_UNAVAILABLE"),
        (LogUnavailableError("host=db"), 503, "SERVICE_UNAVAILABLE"),
        (ZeroDivisionError("host=db"), 500, "INTERNAL_ERROR"),
    ],
)
def test_a_failure_is_told_without_internals(failure: Exception, status: int, code: str) -> None:
    response = error_response(translate(failure), "request-1")
    assert response.status_code == status
    assert f'"code":"{code}"'.encode() in bytes(response.body)
    assert b"host=db" not in bytes(response.body)
    assert ("Retry-After" in response.headers) == (status == 503)


@pytest.mark.parametrize(
    ("said", "sentence_of_it"),
    [
        ("Input should be less than or equal to 100", "must be less than or equal to 100"),
        ("String should have at most 5 characters", "must have at most 5 characters"),
        ("List should have at most 2 items after validation, not 3", "must have at most 2 items, not 3"),
        ("Extra inputs are not permitted", "extra inputs are not permitted"),
        ("is required", "is required"),
    ],
)
def test_what_is_wrong_with_a_value_goes_on_from_its_name(said: str, sentence_of_it: str) -> None:
    assert sentence(said) == sentence_of_it
