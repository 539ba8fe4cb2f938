"""Many cases: found, explained one by one or by workers, kept as parts in a cohort folder."""
