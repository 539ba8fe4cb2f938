"""Many cases: run them, keep their table, learn what is usual, and say what is not.

``cases`` lists them, ``work`` does one, ``runner`` does all; ``store`` and ``assemble`` keep the folder; ``table`` reads it.
``forest``, ``baselines``, ``profile`` and ``scoring`` judge new cases; ``statistics`` and ``html`` tell what was found.
"""
