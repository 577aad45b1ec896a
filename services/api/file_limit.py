"""How many connections the process may hold: each is an open file."""

import logging
import resource
from typing import Final

_log = logging.getLogger(__name__)

_OTHERS: Final = 500
"""Requests under way, and the connections to the broker and the database."""


def allow_streams(count: int) -> None:
    """Raise the process's limit of open files, as far as it may, so that so many streams fit."""
    wanted = count + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if soft < wanted:
            _log.warning("Only %d files may be open: MAX_STREAMS is more than this process can hold", soft)
