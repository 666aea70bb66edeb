"""Times as people write them and as the tape keeps them (microseconds since the epoch, UTC)."""

import re
from datetime import UTC, datetime, timedelta

from hooktape.errors import UsageError

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")
_ISO = re.compile(r"P(?=[\dT])(?:(\d+)D)?(?:T(?=\d)(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?", re.IGNORECASE)


LATEST = 253_402_128_000_000_000
"""9999-12-30 in microseconds: beyond it, or before 1970, a zone's offset makes a time that no datetime can hold."""


def parse_duration(text: str) -> float:
    """Seconds in `30s`, `2m`, `1h30m`, `250ms`, `7d`, `1w`, or in ISO 8601's `PT1H30M`, `P7D`. Raises UsageError for anything else."""
    if iso := _ISO.fullmatch(text.strip()):
        return sum(float(number or 0) * _UNITS[unit] for number, unit in zip(iso.groups(), "dhms", strict=True))
    parts = _PART.findall(text.strip())
    if not parts or "".join(n + u for n, u in parts) != text.strip():
        raise UsageError(f"{text!r} isn't a duration. Write it like 30s, 10m, 2h, 1h30m or 3d.")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """The shortest of `parse_duration`'s forms for whole units: 90 → `90s`, 120 → `2m`, 21600 → `6h`."""
    for unit in ("d", "h", "m", "s"):
        size = _UNITS[unit]
        if seconds >= size and seconds % size == 0:
            return f"{int(seconds // size)}{unit}"
    return f"{round(seconds * 1000)}ms"


def parse_time(text: str, now: datetime | None = None) -> datetime:
    """An instant from ISO 8601 (`2026-11-20`, `2026-11-20T03:00Z`; no zone means UTC) or a time ago (`2h`, `3d`).

    Nine fractional digits, as in Shopify's `X-Shopify-Triggered-At`, are cut to microseconds. Raises UsageError.
    """
    now = now or datetime.now(UTC)
    if text.strip() == "now":
        return now
    try:
        if _PART.match(text.strip()) and not re.match(r"\d{4}-", text.strip()):
            return now - timedelta(seconds=parse_duration(text))
        moment = datetime.fromisoformat(text.strip())
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:
        raise UsageError(f"{text[:40]!r} lies beyond the calendar.") from None
    except ValueError:
        raise UsageError(f"{text!r} isn't a time. Write ISO 8601 (2026-11-20T03:00Z) or a time ago (2h, 3d).") from None


def micros(moment: datetime) -> int:
    """Microseconds since the epoch; exact, where `timestamp()` would go through a float."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def from_micros(value: int) -> datetime:
    """The UTC instant of so many microseconds since the epoch."""
    return _EPOCH + timedelta(microseconds=value)


def iso(value: int) -> str:
    """Microseconds since the epoch as people read them: `2026-11-20T03:00:00.123Z`."""
    return from_micros(value).isoformat(timespec="milliseconds").replace("+00:00", "Z")


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
