"""What scores and their alarms are called: the sentences that command line, report and panel have in common. Plain values."""

from __future__ import annotations


def alarms_in_words(unusual: int, scored: int, expected: float | None) -> str:
    """Return how many structures are unusual, and how many chance alone makes so, in one sentence.

    Examples
    --------
    >>> alarms_in_words(1, 16, 0.8)
    '1 of 16 structures is unusual; 0.8 are expected by chance'
    >>> alarms_in_words(0, 6, 0.3)
    'none of 6 structures is unusual; 0.3 are expected by chance'
    """
    number = "none" if not unusual else str(unusual)
    verb = "is" if unusual <= 1 else "are"
    chance = "" if expected is None else f"; {expected:.1f} are expected by chance"
    return f"{number} of {scored} structure{'s' * (scored != 1)} {verb} unusual{chance}"


def patient_in_words(verdict: str, p: float | None, alarms: float) -> str:
    """Return the verdict on a patient as a whole, with its own rate of false alarms.

    Examples
    --------
    >>> patient_in_words("unusual", 0.016, 0.05)
    'the patient as a whole is unusual (p = 0.016; at most 5 % of usual patients are called so)'
    >>> patient_in_words("undecided", 0.09, 0.05)
    'the patient as a whole cannot be judged at 5 %: there are too few reference cases'
    """
    if p is None or verdict not in ("unusual", "usual"):
        return f"the patient as a whole cannot be judged at {100 * alarms:g} %: there are too few reference cases"
    return (
        f"the patient as a whole is {verdict} (p = {p_in_words(p)}; at most {100 * alarms:g} % of usual patients are called so)"
        if verdict == "unusual"
        else f"the patient as a whole is usual (p = {p_in_words(p)})"
    )


def p_in_words(p: float) -> str:
    """Return a p-value with as many digits as it can bear.

    Examples
    --------
    >>> p_in_words(0.0164), p_in_words(0.31), p_in_words(0.0004)
    ('0.016', '0.31', '0.0004')
    """
    return f"{p:.2f}" if p >= 0.1 else f"{p:.3f}" if p >= 0.001 else f"{p:.1g}"
