"""Baselines learn what their inputs hold and nothing else: no presence by accident, no patient on both
sides.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
import pytest
from small_cohorts import cohort_of, frame_of

from mmmed.data.cohort import Cohort
from mmmed.data.features import Block, block_of_cells, blocks_of, presence, to_numbers
from mmmed.evaluation import baselines as b
from mmmed.evaluation.metrics import auroc


@pytest.fixture(scope="module")
def halves():
    """A cohort whose first 200 patients are for fitting, the last 100 for scoring."""
    frame = frame_of(600, seed=3)
    frame["part"] = ["train"] * 400 + ["test"] * 150 + ["val"] * 50
    cohort = cohort_of(frame, split="part")
    return cohort["train"], cohort["test"]


def score(part, said):
    return auroc(part.targets("ill")[0], said)


def test_each_modality_is_learned_and_all_together_are_better(halves):
    train, test = halves
    alone = [score(test, b.single_modality(train, test, "ill", name)) for name in ("image", "table", "text")]
    together = score(test, b.logistic(train, test, "ill"))
    assert min(alone) > 0.58
    assert together > max(alone) + 0.02
    assert score(test, b.nearest_neighbour(train, test, "ill")) > 0.62


def test_the_best_column_is_found_in_training(halves):
    train, test = halves
    said, name = b.best_single_column(train, test, "ill")
    assert name == "age"
    assert score(test, said) > 0.58


def test_presence_that_tells_the_answer_is_found_by_presence_only_and_by_no_other_baseline():
    """Every value is noise; ill patients have their table, picture and note missing more often."""
    frame = frame_of(800, seed=1)
    rng = np.random.default_rng(0)
    frame["ill"] = rng.integers(0, 2, 400).repeat(2)
    gone = rng.random((800, 3)) < np.where(frame["ill"], 0.7, 0.2)[:, None]
    whole = frame_of(800, seed=7)
    for k, columns in enumerate((["scan"], ["age", "crp", "sex"], ["note"])):
        for column in columns:
            filled = whole[column].where(whole[column].notna(), frame[column])
            frame[column] = filled.astype(object).where(~pd.Series(gone[:, k]), None)
    # names of columns keep their kind: numbers stay numbers
    frame[["age", "crp"]] = frame[["age", "crp"]].astype(float)
    cohort = cohort_of(frame)
    train, test = cohort["train"], cohort["test"]
    assert score(test, b.presence_only(train, test, "ill", level="modalities")) > 0.75
    assert score(test, b.presence_only(train, test, "ill")) > 0.75
    for name in ("image", "table", "text"):
        assert score(test, b.single_modality(train, test, "ill", name)) < 0.63
    assert score(test, b.logistic(train, test, "ill")) < 0.64


def test_the_table_of_baselines_has_a_row_for_each_with_intervals(halves):
    table = b.baselines(*halves, "ill", draws=50)
    names = table.column("inputs")
    assert names == [
        "presence of modalities only",
        "presence of columns only",
        "confounders only (device)",
        "image only",
        "table only",
        "text only",
        "best column only (age)",
        "nearest neighbours",
        "all inputs",
    ]
    best = table.where(inputs="all inputs")[0]["auroc"]
    assert best.low < best.value < best.high
    assert best.groups == len(set(halves[1].groups))
    assert table.where(inputs="confounders only (device)")[0]["auroc"].value < 0.62


def test_patients_on_both_sides_are_refused(halves):
    with pytest.raises(ValueError, match="patients are in both parts"):
        b.baselines(halves[0], halves[0][:50], "ill")


def test_probabilities_of_the_balanced_fit_are_turned_back_to_the_prevalence():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 1))
    y = (rng.random(2000) < 1 / (1 + np.exp(-(2 * x[:, 0] - 3)))).astype(float)
    said = b.linear(x, y, x)
    assert said.mean() == pytest.approx(y.mean(), abs=0.01)
    assert b.linear(x, y, x, prior=False).mean() > 1.5 * y.mean()
    assert auroc(y, said) == auroc(y, b.linear(x, y, x, prior=False))


def test_a_class_that_training_lacks_gets_probability_zero_and_one_class_gives_its_share():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 2))
    said = b.linear(x, np.r_[np.zeros(15), np.full(15, 2.0)], x, "multiclass", 3)
    assert (said[:, 1] == 0).all()
    np.testing.assert_allclose(said.sum(1), 1)
    assert (b.linear(x, np.ones(30), x) == 1).all()
    assert (b.linear(x, np.full(30, np.nan), x) == 0.5).all()


@pytest.mark.parametrize(
    "target",
    [
        {"stage": "stage"},
        {"findings": ["ill", "late"]},
        {"age10": "score"},
    ],
)
def test_every_kind_of_task_has_baselines(target):
    frame = frame_of(120)
    rng = np.random.default_rng(0)
    frame["stage"] = rng.choice(["I", "II", "III"], 120)
    frame["late"] = rng.integers(0, 2, 120)
    frame["score"] = frame["ill"] * 2.5 + rng.normal(size=120)
    cohort = cohort_of(frame, target=target)
    table = b.baselines(cohort["train"], cohort["test"], next(iter(target)), draws=10)
    assert len(table) == 9
    first = {"age10": "mae"}.get(next(iter(target)), "auroc")
    assert all(np.isfinite(row[first].value) for row in table)


def test_black_pictures_fill_the_gaps_and_change_nothing_else(cohort):
    part = cohort["test"]
    filled = b.with_black_images(part)
    assert filled.present[:, 0].all()
    np.testing.assert_array_equal(filled.present[:, 1:], part.present[:, 1:])
    np.testing.assert_array_equal(filled.ids, part.ids)
    np.testing.assert_array_equal(filled.groups, part.groups)
    assert set(filled.splits) == {"test"}
    before, after = part.collate(list(part)), filled.collate(list(filled))
    own = np.flatnonzero(part.present[:, 0])
    np.testing.assert_allclose(
        after.values["image"]["pixels"][own], before.values["image"]["pixels"], atol=1e-6
    )
    image = cohort.schema.modalities["image"]
    black = np.flatnonzero(~part.present[:, 0])
    np.testing.assert_allclose(after.values["image"]["pixels"][black], -image.mean / image.scale, rtol=1e-5)
    for name in ("cells", "known"):
        np.testing.assert_array_equal(after.values["table"][name], before.values["table"][name])
    everybody = b.with_black_images(part, only_absent=False)
    assert everybody.collate(list(everybody)).values["image"]["pixels"].std() < 1e-5


def test_black_pictures_need_a_picture():
    frame = frame_of(40).drop(columns=["scan"])
    with pytest.raises(ValueError, match="no image modality"):
        b.with_black_images(cohort_of(frame, image=None))


def test_features_of_a_picture_by_hand():
    """A picture with a dark left and a bright right half: mean 0.5, grid rows of 0 and 1, two full bins."""
    picture = np.zeros((16, 16), dtype="float32")
    picture[:, 8:] = 1
    frame = frame_of(40)
    frame["scan"] = [picture] * 40
    block = blocks_of(cohort_of(frame)["test"])["image"]
    mean, sd, grid, bins = block.values[0, 0], block.values[0, 1], block.values[0, 2:66], block.values[0, 66:]
    assert mean == pytest.approx(0.5, abs=1e-3)
    assert sd == pytest.approx(0.5, abs=0.02)  # resizing from 16 to 64 pixels softens the edge
    np.testing.assert_allclose(bins[[0, -1]], 0.5, atol=0.04)
    assert bins.sum() == pytest.approx(1)
    halves = grid.reshape(8, 8)
    assert np.ptp(halves[:, :3]) < 1e-5
    assert (halves[:, 5:] > halves[:, :3] + 1).all()


def test_what_is_missing_is_filled_from_the_training_rows_without_an_indicator():
    train = Block(np.array([[1.0, 0], [3, 1], [np.nan, 1], [8, np.nan]]), ("crp", "sex"), (0, 2))
    test = Block(np.array([[np.nan, np.nan]]), ("crp", "sex"), (0, 2))
    x, z = to_numbers(train, test)
    assert x.shape == (4, 3)
    assert not x[2, 0].any()
    assert not x[3, 1:].any()
    assert not z[0].any()  # the mean stands in, which is 0 in every number
    np.testing.assert_allclose(x[[0, 1, 3], 0], (np.array([1, 3, 8]) - 4) / np.std([1, 3, 8]))


def test_an_absent_text_gets_the_mean_of_the_training_texts():
    train = Block(np.array(["fever cough", "fever cough", "healthy", "healthy", None], dtype=object))
    x, z = to_numbers(train, Block(np.array([None, "fever"], dtype=object)))
    assert not x[4].any()
    assert not z[0].any()
    assert z[1].any()


def test_raw_columns_become_numbers_or_categories():
    numbers = block_of_cells(["1", None, "2.5", "inf"], "dose")
    np.testing.assert_array_equal(numbers.values[:, 0], [1, np.nan, 2.5, np.nan])
    device = block_of_cells(["A", "B", None, "A"], "device")
    assert device.levels == (2,)
    np.testing.assert_array_equal(device.values[:, 0], [0, 1, np.nan, 0])


def test_presence_is_read_per_modality_and_per_column(frame):
    frame = frame.copy()
    frame.loc[frame.index[:30], "crp"] = np.nan
    cohort = cohort_of(frame)
    flags, names = presence(cohort, "modalities")
    assert names == ("image", "table", "text")
    np.testing.assert_array_equal(flags, cohort.present)
    flags, names = presence(cohort, "columns")
    assert names == ("image", "age", "crp", "sex", "text")
    np.testing.assert_array_equal(flags[:, 2], frame["crp"].notna())
    hidden, _ = presence(cohort.without("table"), "columns")
    assert not hidden[:, 1:4].any()


def test_series_and_volumes_have_features_too():
    rng = np.random.default_rng(0)
    steps = [
        [{"time": float(t), "pulse": 60.0 + 10 * t, "spo2": None} for t in range(rng.integers(1, 4))]
        for _ in range(30)
    ]
    frame = pd.DataFrame(
        {
            "vitals": steps,
            "ct": list(rng.random((30, 4, 8, 8)).astype("float32")),
            "y": rng.integers(0, 2, 30),
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cohort = Cohort.from_frame(frame, series="vitals", volume="ct", target="y")
    blocks = blocks_of(cohort)
    names = blocks["series"].names
    values = dict(zip(names, blocks["series"].values.T, strict=True))
    assert np.isfinite(values["pulse last"]).all()
    assert (values["pulse last"] >= values["pulse least"]).all()
    assert blocks["volume"].values.shape == (30, 82)
    assert np.isfinite(b.logistic(cohort["train"], cohort["test"], "y")).all()
