"""When to stop."""


def best(losses: list[float], patience: int) -> int:
    """At which of the evaluations, from 0 on, a run that stops early has its best weights.

    It goes through the validation losses in order, and stops when the best one so far lies
    `patience` evaluations back. What would come later it never sees.
    """
    found = 0
    for index, loss in enumerate(losses):
        if loss < losses[found]:
            found = index
        if index - found >= patience:
            break
    return found
