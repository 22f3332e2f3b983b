"""Figures as a person reads them; what is not known is "unknown"."""

UNKNOWN = "unknown"


def amount(value: float | None) -> str:
    """1234.5 as 1,234."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def percent(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:.1%}"


def dollars(value: float | None) -> str:
    return UNKNOWN if value is None else f"${value:,.2f}"


def seconds_of(value: float) -> str:
    """The time of one step."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def duration(seconds: float | None) -> str:
    """5400 as 1 h 30 min."""
    if seconds is None:
        return UNKNOWN
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min")]
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 s"
