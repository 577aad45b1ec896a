"""Rows of the release before lists had filters are listed too."""

import json
from datetime import UTC, datetime
from decimal import Decimal

import psycopg

from shared.postgres.migrate import load, migrate

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
VIEW = {"name": "Fix-It now_ok", "description": "Ünder, test."}
TASK = {
    "title": "Title  one",
    "attempts": [
        {"id": "a1", "error_code": "TIMEOUT", "duration": None, "cost": 0.5},
        {"id": "a2", "error_code": None, "duration": 70, "cost": 1},
        {"id": "a3", "error_code": None, "duration": None, "cost": 0},
    ],
}


def test_old_rows_get_words_terms_and_costs(database_url: str) -> None:
    migrate(database_url, load()[:3])
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO orchestrations (team_id, id, seq, version, status, name, repository, ref, tags, created_by,"
            " created_at, updated_at, view) VALUES ('red', 'o', 1, 1, 'ACTIVE', 'x', 'https://github.com/a/b', 'main',"
            " ARRAY['hot', 'Big one'], 'ann', %s, %s, %s), ('red', 'p', 2, 1, 'PENDING', NULL, 'r', 'main', '{}',"
            " 'bob', %s, %s, '{}')",
            (AT, AT, json.dumps(VIEW), AT, AT),
        )
        connection.execute("INSERT INTO tasks VALUES ('red', 't', 'o', 0, 'FAILED', 1, %s)", (json.dumps(TASK),))
        for attempt, ended in (("a1", AT), ("a2", AT), ("a3", None)):
            connection.execute(
                "INSERT INTO agents (team_id, attempt_id, agent_id, task_id, orchestration_id, number, model, ended_at,"
                " seq) VALUES ('red', %s, 'bc', 't', 'o', 1, 'o3', %s, 7)",
                (attempt, ended),
            )
    migrate(database_url)
    with psycopg.connect(database_url) as connection:
        words = connection.execute("SELECT words FROM orchestrations ORDER BY id").fetchall()
        terms = connection.execute("SELECT term FROM orchestration_terms WHERE id = 'o' AND created_at = %s", (AT,))
        found = {term for (term,) in terms}
        costs = connection.execute("SELECT attempt_id, model, failed, duration_ms, cost FROM attempt_costs ORDER BY 1")
        assert costs.fetchall() == [("a1", "o3", True, 0, Decimal("0.5")), ("a2", "o3", False, 70, Decimal(1))]
    assert words == [(" fix it now ok \n ünder test \n title one ",), ("",)]
    assert found == {
        *("s:ACTIVE", "r:https://github.com/a/b", "c:ann", "t:hot", "t:Big one"),
        *("w:fix", "w:it", "w:now", "w:ok", "w:ünder", "w:test", "w:title", "w:one"),
    }
