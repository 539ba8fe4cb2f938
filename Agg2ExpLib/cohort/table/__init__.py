"""The tables of a cohort: assembled from its parts, read, and imported from published ones."""
