"""The report of a cohort: one HTML page with its figures."""
