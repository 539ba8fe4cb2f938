"""Published per-case tables against volumes that they were made of, computed by hand and with pandas."""

import numpy as np
import pandas as pd
import pytest

from Agg2ExpLib.cli import main
from Agg2ExpLib.cohort.judge.profile import fit_profile
from Agg2ExpLib.cohort.judge.scoring import score_table
from Agg2ExpLib.cohort.table.published import import_published
from Agg2ExpLib.cohort.table.tables import CohortTable
from Agg2ExpLib.errors import InputError
from Agg2ExpLib.importance import MEASURES

CLASSES = ("background", "heart", "aorta", "lung")


def patient(seed, lacking=(), shape=(12, 12, 12)):
    """Make labels and one signed attribution per class: strong inside, weak outside, of mean about 0."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(4, size=shape, p=(0.7, 0.15, 0.1, 0.05))
    for index in lacking:
        labels[labels == index] = 0
    return labels, [rng.normal(0, 1 + 3 * (labels == index), shape) for index in range(4)]


def whole(parts):
    return np.abs(parts).sum()


def columns_of(labels, attributions, masks=None, sign="", classes=CLASSES):
    """Return the columns as the published scripts compute them: masses, means, signed mean and variance."""
    part = {"": np.abs, "_pos": lambda e: np.clip(e, 0, None), "_neg": lambda e: np.clip(-e, 0, None)}[sign]
    masks = masks or {name: labels == index for index, name in enumerate(CLASSES)}
    row = {}
    for name, attribution in zip(CLASSES, attributions, strict=True):
        if name not in classes:
            continue
        e = part(attribution)
        for roi, mask in masks.items():
            with np.errstate(invalid="ignore"):
                row[f"{name}_explanation_in_{roi}_mass{sign}"] = (e * mask).sum() / e.sum()
                row[f"{name}_explanation_in_{roi}_mean{sign}"] = np.float64((e * mask).sum()) / mask.sum()
        row[f"{name}_explanation_var{sign}"], row[f"{name}_explanation_mean{sign}"] = (
            attribution.var(),
            attribution.mean(),
        )
    return row


def write(path, rows, **extra):
    frame = pd.DataFrame([{"patient": f"p{n}", **row} for n, row in enumerate(rows)]).assign(**extra)
    frame.to_csv(path, index=False)
    return path


def imported(tmp_path, path):
    found = import_published(path, tmp_path / "out")
    return found, CohortTable.read(tmp_path / "out")


def test_enrichment_is_the_mean_over_the_mean_of_the_whole_volume_whatever_the_signed_mean_says(tmp_path):
    made = [patient(n) for n in range(5)]
    found, table = imported(tmp_path, write(tmp_path / "test_sg.csv", [columns_of(*one) for one in made]))
    assert (found.patients, found.absent, found.without_enrichment, found.partition) == (5, 0, 0, True)
    frame = pd.read_csv(tmp_path / "test_sg.csv")
    for n, (labels, attributions) in enumerate(made):
        for i, attribution in enumerate(attributions):
            strength = np.abs(attribution)
            direct = [strength[labels == k].mean() / strength.mean() for k in range(4)]
            np.testing.assert_allclose(table.values["enrichment"][n, i], direct, rtol=1e-10)
            mass = frame.loc[n, [f"{CLASSES[i]}_explanation_in_{roi}_mass" for roi in CLASSES]].to_numpy(float)
            mean = frame.loc[n, [f"{CLASSES[i]}_explanation_in_{roi}_mean" for roi in CLASSES]].to_numpy(float)
            np.testing.assert_allclose(table.values["enrichment"][n, i], mean * (mass / mean).sum(), rtol=1e-10)


def test_a_region_that_a_patient_lacks_holds_nothing_and_has_no_enrichment(tmp_path):
    labels, attributions = patient(1, lacking=(3,))
    attributions[3][:] = 0.0
    with np.errstate(all="ignore"):
        path = write(tmp_path / "t_ig.csv", [columns_of(*patient(0)), columns_of(labels, attributions)])
    found, table = imported(tmp_path, path)
    assert (found.absent, found.method) == (1, "integrated-gradients")
    assert np.isnan(table.values["mass"][1, 3]).all(), "the class itself is absent"
    assert table.values["mass"][1, 1, 3] == 0
    assert np.isnan(table.values["enrichment"][1, 1, 3])
    strength = np.abs(attributions[1])
    direct = [strength[labels == k].mean() / strength.mean() for k in range(3)]
    np.testing.assert_allclose(table.values["enrichment"][1, 1, :3], direct, rtol=1e-10)


def test_a_region_without_any_attribution_of_one_class_is_measured_by_the_others(tmp_path):
    labels, attributions = patient(2)
    attributions[1][labels == 3] = 0.0
    _, table = imported(tmp_path, write(tmp_path / "t_vg.csv", [columns_of(labels, attributions)]))
    strength = np.abs(attributions[1])
    direct = [strength[labels == k].mean() / strength.mean() for k in range(4)]
    np.testing.assert_allclose(table.values["enrichment"][0, 1], direct, rtol=1e-10)


def test_a_patient_without_the_finding_has_mass_0_and_counts_in_the_mean(tmp_path):
    made = [patient(n) for n in range(4)]
    masks = [np.zeros(made[0][0].shape, bool) for _ in made]
    for mask in masks[:2]:
        mask[2:5, 2:5, 2:5] = True
    rows = [columns_of(*one, masks={"effusion": mask}) for one, mask in zip(made, masks, strict=True)]
    found, table = imported(tmp_path, write(tmp_path / "t_ig.csv", rows))
    mass = table.values["mass"][:, 1, 0]
    direct = [np.abs(e[1])[mask].sum() / np.abs(e[1]).sum() for (_, e), mask in zip(made, masks, strict=True)]
    np.testing.assert_allclose(mass, direct, rtol=1e-12)
    assert (mass[2:] == 0).all()
    assert found.absent == 0
    assert not found.partition
    assert np.isnan(table.values["enrichment"]).all()


def test_signed_tables_give_the_whole_attribution_and_both_shares(tmp_path):
    made = [patient(n) for n in range(3)]
    path = write(tmp_path / "t_ig.csv", [columns_of(*one, sign="_neg") | columns_of(*one, sign="_pos") for one in made])
    found = import_published(path, tmp_path / "out")
    part = pd.read_parquet(tmp_path / "out" / "importance.parquet").set_index(["case", "class", "roi"])
    assert found.partition
    for n, (labels, attributions) in enumerate(made):
        for name, e in zip(CLASSES, attributions, strict=True):
            for k, roi in enumerate(CLASSES):
                row, inside = part.loc[(f"p{n}", name, roi)], labels == k
                direct = {
                    "mass": np.abs(e)[inside].sum() / np.abs(e).sum(),
                    "positive": np.clip(e, 0, None)[inside].sum() / np.clip(e, 0, None).sum(),
                    "negative": np.clip(-e, 0, None)[inside].sum() / np.clip(-e, 0, None).sum(),
                    "mean_density": np.abs(e)[inside].mean(),
                    "enrichment": np.abs(e)[inside].mean() / np.abs(e).mean(),
                }
                np.testing.assert_allclose([row[measure] for measure in direct], list(direct.values()), rtol=1e-9)
    assert set(MEASURES) <= set(part.columns)


def test_signed_shares_of_extra_masks_only_are_refused(tmp_path):
    mask = {"effusion": np.arange(12**3).reshape(12, 12, 12) % 9 == 0}
    row = columns_of(*patient(0), masks=mask, sign="_pos") | columns_of(*patient(0), masks=mask, sign="_neg")
    with pytest.raises(InputError, match="do not fill the volume"):
        import_published(write(tmp_path / "t_ig.csv", [row]), tmp_path / "out")


def test_a_profile_of_one_method_refuses_a_table_of_another(tmp_path):
    rows = [columns_of(*patient(n)) for n in range(4)]
    tables = {}
    for name in ("train_sg", "test_sg", "train_ig", "unnamed"):
        import_published(write(tmp_path / f"{name}.csv", rows), tmp_path / name)
        tables[name] = CohortTable.read(tmp_path / name)
    profile = fit_profile(tables["train_sg"])
    assert score_table(profile, tables["test_sg"])
    with pytest.raises(InputError, match="method is integrated-gradients instead of smoothgrad"):
        score_table(profile, tables["train_ig"])
    with pytest.raises(InputError, match=r"method is not told \(unnamed.csv\)"):
        score_table(profile, tables["unnamed"])


def test_the_method_can_be_given_and_is_said(tmp_path, capsys):
    path = write(tmp_path / "unnamed.csv", [columns_of(*patient(0))])
    assert main(["cohort", "import", str(path), "--out", str(tmp_path / "a")]) == 0
    assert "give --method" in capsys.readouterr().out
    assert main(["cohort", "import", str(path), "--out", str(tmp_path / "b"), "--method", "smoothgrad"]) == 0
    assert "method: smoothgrad" in capsys.readouterr().out
    assert CohortTable.read(tmp_path / "b").identity["settings"]["method"] == "smoothgrad"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text.replace("patient", "who", 1), "is no published table"),
        (lambda text: text.replace("\np1,", "\np0,"), "line 3: patient 'p0' is empty or given twice"),
        (lambda text: text.replace("\np1,", "\np1,much"), "line 3 column 2: 'much"),
        (lambda text: text.replace("\np1,", "\n"), "line 3 has"),
        (
            lambda text: text.replace("heart_explanation_in_lung_mass", "other", 1),
            "has no column heart_explanation_in_lung",
        ),
        (lambda text: text.replace("heart_explanation_in_lung_mean", "heart_explanation_in_lung_mass"), "twice"),
    ],
)
def test_tables_of_another_make_are_refused(tmp_path, change, told):
    path = write(tmp_path / "t_sg.csv", [columns_of(*patient(n)) for n in range(2)])
    path.write_text(change(path.read_text()))
    with pytest.raises(InputError, match=told):
        import_published(path, tmp_path / "out")


def test_dice_and_metadata_come_with_the_table(tmp_path):
    rows = [
        columns_of(*patient(n)) | {"heart_dice": 0.5 + n / 4, "aorta_dice": np.nan, "heart_iou": 0.4} for n in range(2)
    ]
    _, table = imported(tmp_path, write(tmp_path / "t_sg.csv", rows, age=["60", "NA"]))
    assert table.metadata == {"age": ("60", "")}
    assert table.dice[:, table.classes.index("heart")].tolist() == [0.5, 0.75]
    assert np.isnan(table.dice[:, table.classes.index("aorta")]).all()
