"""The figures that lesson 4 quotes: none yet."""

FIGURES: dict[str, tuple[float, str, float]] = {}
