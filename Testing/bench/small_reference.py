"""A reference profile around one explanation, made in a moment: what a cohort of similar patients would have given."""

import json
from dataclasses import replace

import numpy as np


def write_reference(explanation, path, count=60, shifted=None, spread=0.15):
    """Write a profile of made-up cases; ``shifted`` is structure -> (region, share): there the reference looked elsewhere."""
    from Agg2ExpLib.cohort.judge.profile import fit_profile
    from Agg2ExpLib.cohort.table.tables import CohortTable
    from Agg2ExpLib.explanation import Explanation

    one = CohortTable.of_explanation(Explanation.load(explanation))
    rng = np.random.default_rng(0)
    mass = np.repeat(one.values["mass"], count, axis=0)
    mass = mass * np.exp(rng.normal(0, spread, mass.shape))
    for name, (region, share) in (shifted or {}).items():
        mass[:, one.classes.index(name), one.rois.index(region)] += share
    mass = mass / np.nansum(mass, axis=2, keepdims=True)
    nothing = np.full((count, len(one.classes)), np.nan)
    table = replace(
        one,
        cases=tuple(f"case{number}" for number in range(count)),
        values={"mass": mass, "enrichment": mass},
        dice=nothing,
        surface_dice=nothing,
        volumes=np.repeat(one.volumes, count, axis=0),
        identity=json.loads(json.dumps(one.identity)),
    )
    return fit_profile(table).save(path)
