"""Postgres: pool, migrations."""
