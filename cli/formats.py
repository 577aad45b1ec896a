"""Single values as people read them."""

import re
from datetime import datetime, timedelta

NOTHING = "–"

_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]+")


def clean(text: object) -> str:
    """One line without control characters: titles and summaries come from others and must not steer a terminal."""
    return _UNSAFE.sub(" ", str(text)).strip()


def duration(value: timedelta) -> str:
    """`4.2s`, `1m 05s`, `2h 03m`; less than nothing is nothing."""
    seconds = max(0.0, value.total_seconds())
    if seconds < 59.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest:02d}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m"


def cost(dollars: float | None) -> str:
    """Four places below a dollar, where the difference between tasks is."""
    if dollars is None:
        return NOTHING
    return f"${dollars:.4f}" if 0 < dollars < 1 else f"${dollars:.2f}"


def moment(value: str | None) -> datetime | None:
    """A time of the API; None when there is none or it makes no sense."""
    try:
        return datetime.fromisoformat(value) if value else None
    except ValueError:
        return None


def clock(value: datetime) -> str:
    """The time of day here."""
    return value.astimezone().strftime("%H:%M:%S")


def date_and_time(value: str | None, *, seconds: bool = True) -> str:
    """A time of the API as date and time of day here."""
    parsed = moment(value)
    return parsed.astimezone().strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M") if parsed else NOTHING


def agent(agent_id: str | None) -> str:
    """The start of an agent's id: enough to tell one from another."""
    return clean(agent_id)[:11] if agent_id else NOTHING


def pull_request(url: str | None) -> str:
    """`#17` for the address of a pull request."""
    if not url:
        return NOTHING
    last = url.rstrip("/").rsplit("/", 1)[-1]
    return f"#{last}" if last.isdigit() else clean(url)


def web_link(url: str | None) -> str | None:
    """The address if a terminal may offer it as a link, else None."""
    return url if url and url.startswith(("https://", "http://")) and clean(url) == url and " " not in url else None


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
