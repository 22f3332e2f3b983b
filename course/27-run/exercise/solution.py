"""What a run takes."""


def plan(
    parameters: int, layers: int, width: int, context: int, tokens: int, speed: float
) -> float:
    """The seconds of a run at so many operations a second.

    Six operations a parameter: a multiplication and an addition forward, and twice that backward
    (Kaplan et al. 2020). Attention's two products cost 4 T C a layer forward, three times that in
    all.
    """
    return tokens * (6 * parameters + 12 * layers * width * context) / speed
