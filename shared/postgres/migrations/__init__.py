"""Numbered, forward-only SQL files; a file that was applied somewhere is never changed again."""
