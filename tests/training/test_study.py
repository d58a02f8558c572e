"""A study: recipes x training masks x test masks x folds, that can be stopped and shared among processes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from frames import TABLES, make_frame, make_tables

from mmmed.data.cohort import Cohort
from mmmed.data.missingness import Mechanism
from mmmed.evaluation.metrics import auroc
from mmmed.models.create import create_model
from mmmed.training.finetune import finetune
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import Policy
from mmmed.training.recipe import Recipe
from mmmed.training.study import missingness_study
from mmmed.training.study_folds import distinct, hide_from_learning
from mmmed.training.study_jobs import Job, Work, seed_of
from mmmed.training.study_scores import mean_of

NATURAL = Mechanism("natural")
HALF = Mechanism("mcar", {"share": 0.5})
SMALL = Recipe(epochs=2, dim=8, state_dim=8, optimisation=Optimisation(lr=5e-3))
READS = Recipe("gradient_boosting", policy=Policy(dropout=0.0, missingness="use"))


def by_label(**options):
    return Mechanism(
        "mnar_by_label",
        {"task": "sick", "modality": "vitals", "positive": 0.8, "negative": 0.0, **options},
    )


def small_study(output=None, **options):
    recipes = {"gated": SMALL, "logistic": "logistic_regression"}
    given = {"train": [NATURAL, HALF], "test": [NATURAL, HALF], "folds": 3, "progress": False, "draws": 50}
    return missingness_study(recipes, make_tables(90), **{**given, "output": output, **options})


@pytest.fixture(scope="module")
def study():
    return small_study()


def answers(study):
    return {
        (str(job), test, task): values
        for job, outcome in study.scorer.outcomes.items()
        for test, said in outcome.answers.items()
        for task, values in said.items()
    }


def check_equal(first, second):
    first, second = answers(first), answers(second)
    assert list(first) == list(second)
    for key, values in first.items():
        np.testing.assert_array_equal(values, second[key])


# ------------------------------------------------------------------------------------------------- the table


def test_every_recipe_stands_under_every_training_and_test_mask(study):
    rows = {(row["recipe"], row["trained_on"], row["tested_on"]) for row in study.table}
    masks = ("as recorded", "mcar 50 %")
    assert rows == {(r, a, b) for r in ("gated", "logistic") for a in masks for b in masks}
    assert not study.errors
    for row in study.table:
        assert (row["n"], row["patients"], row["members"]) == (90, 90, 3)
        assert row["auroc"].low <= row["auroc"].value <= row["auroc"].high
        assert row["cpu_seconds"] > 0
        assert (row["changed"] > 0) == (row["tested_on"] == "mcar 50 %")
    assert "mean over members" in study.to_markdown()
    assert len(study.to_frame()) == len(study.table)


def test_masks_may_have_names_of_their_own_and_stand_side_by_side():
    study = small_study(train={"holes": HALF}, test={"whole": NATURAL, "half": HALF})
    table = study.side_by_side()
    assert table.columns == ("recipe", "whole", "half")
    for line in table:
        row = study.table.where(recipe=line["recipe"], trained_on="holes", tested_on="half")[0]
        assert line["half"] == row["auroc"]
    several = small_study().side_by_side(metric="brier")
    assert several.columns[:2] == ("recipe", "trained_on")
    assert len(several) == 4


def test_the_score_is_the_mean_over_folds_of_what_finetune_and_the_mask_give_by_hand(study):
    areas = []
    for number, fold in enumerate(make_tables(90).folds(3)):
        hidden = hide_from_learning(fold, HALF)
        model = create_model(hidden.schema, fusion="logistic_regression")
        finetune(model, hidden, progress=False, seed=seed_of(Job("logistic", "mcar 50 %", 0, number)))
        said = model.asker(hidden["test"])(HALF.apply(hidden["test"]))["sick"][:, 0]
        areas.append(auroc(fold["test"].targets("sick")[0], said))
    row = study.table.where(recipe="logistic", trained_on="mcar 50 %", tested_on="mcar 50 %")[0]
    assert row["auroc"].value == pytest.approx(np.mean(areas))
    members = study.members.where(recipe="logistic", trained_on="mcar 50 %", tested_on="mcar 50 %")
    assert row["auroc"].value == pytest.approx(np.mean(members.column("auroc")))
    assert row["auroc_sd"] == pytest.approx(np.std(members.column("auroc"), ddof=1))


def test_members_of_a_network_are_trained_together(study):
    assert {row["together"] for row in study.jobs.where(recipe="gated")} == {3}
    assert {row["together"] for row in study.jobs.where(recipe="logistic")} == {1}


def test_who_reads_the_pattern_fails_when_it_flips():
    cohort = make_tables(240, gaps=0.0)
    tests = [by_label(), NATURAL, by_label(flipped=True)]
    study = missingness_study(
        {"reads": READS}, cohort, [by_label()], tests, folds=3, progress=False, draws=50
    )
    same, complete, flipped = (row["auroc"].value for row in study.table)
    assert same > 0.9
    assert complete > flipped + 0.15


# --------------------------------------------------------------------------------------- masks in the folds


def test_training_and_validation_lose_what_the_mask_takes_and_test_records_nothing():
    fold = make_tables(90).folds(3)[1]
    hidden = hide_from_learning(fold, HALF)
    for part in ("train", "val"):
        expected = HALF.apply(fold[part])
        np.testing.assert_array_equal(hidden[part].present, expected)
        assert expected.sum() < np.asarray(fold[part].present).sum()
    np.testing.assert_array_equal(hidden["test"].present, fold["test"].present)


def test_statistics_come_from_the_training_records_that_still_have_the_modality():
    fold = make_tables(90, gaps=0.0).folds(3)[0]
    hidden = hide_from_learning(fold, by_label())
    left = np.asarray(hidden["train"].present)[:, 1]
    pulse = np.array(fold["train"].column("pulse"), dtype=float)[left]
    cell = hidden.schema.modalities["vitals"].cells[0]
    assert cell.mean == pytest.approx(pulse.mean())
    assert cell.mean != pytest.approx(fold.schema.modalities["vitals"].cells[0].mean)
    assert hidden.schema.modalities["serum"] == fold.schema.modalities["serum"]


def test_mechanisms_that_read_alike_keep_their_own_names():
    other = Mechanism("mcar", {"share": 0.5, "seed": 1})
    labels = list(distinct([HALF, other, HALF, NATURAL]))
    assert labels == ["mcar 50 % (share 0.5)", "mcar 50 % (share 0.5, seed 1)", "as recorded"]


# ------------------------------------------------------------------------------------------------- intervals


def test_intervals_are_of_the_mean_over_folds_with_patients_redrawn_inside_each(study):
    scorer = study.scorer
    jobs = scorer.jobs("gated", "as recorded")
    times = scorer._times
    patients = np.unique(scorer.work.cohort.groups)
    slow = []
    for draw in range(50):
        areas = []
        for job in jobs:
            test = scorer.work.whole_folds[0][job.fold]["test"]
            weights = [int(times[draw, np.flatnonzero(patients == group)[0]]) for group in test.groups]
            assert sum(weights) == len(test)  # as many patients as the fold has
            rows = np.repeat(np.arange(len(test)), weights)
            said = scorer.outcomes[job].answers["as recorded"]["sick"]
            areas.append(auroc(test.targets("sick")[0][rows], said[rows]))
        slow.append(np.mean(areas))
    score = study.table.where(recipe="gated", trained_on="as recorded", tested_on="as recorded")[0]["auroc"]
    assert (score.low, score.high) == pytest.approx(np.quantile(slow, [0.025, 0.975]))


def test_a_patient_has_the_same_weight_in_all_rows_and_repetitions():
    frame = make_frame(90)
    frame["patient"] = [f"p{i // 4}" for i in range(90)]
    cohort = Cohort.from_frame(
        frame,
        tabular={"serum": ["crp", "lactate"], "vitals": ["pulse"]},
        target="sick",
        id="id",
        group="patient",
    )
    study = missingness_study(
        {"l": "logistic_regression"}, cohort, test=[NATURAL], folds=3, seeds=2, progress=False, draws=20
    )
    assert study.table[0]["patients"] == 23
    weights = {}
    for job in study.scorer.jobs("l", "as recorded"):
        test = study.scorer.work.whole_folds[job.seed][job.fold]["test"]
        for group, column in zip(test.groups, study.scorer._weights(job)[1:].T, strict=True):
            weights.setdefault(group, []).append(tuple(column))
    assert {len(set(columns)) for columns in weights.values()} == {1}
    assert len(study.members) == 6


def test_a_difference_is_paired(study):
    twice = missingness_study(
        {"a": READS, "b": READS, "c": "logistic_regression"},
        make_tables(90),
        test=[NATURAL],
        folds=3,
        progress=False,
        draws=50,
    )
    gaps = twice.differences()
    assert [row["recipe"] for row in gaps] == ["b", "c"]
    same, other = (row["difference"] for row in gaps)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    scores = [row["auroc"] for row in twice.table]
    assert other.value == pytest.approx(scores[2].value - scores[0].value)
    assert twice.differences(to="c")[0]["difference"].value == pytest.approx(-other.value)
    brier = twice.differences(to="c", metric="brier")[0]["difference"].value
    assert brier == pytest.approx(twice.table[0]["brier"].value - twice.table[2]["brier"].value)


def test_members_without_a_score_are_left_out_of_the_mean():
    values = np.array([[0.8, 0.7, np.nan], [0.6, np.nan, np.nan], [np.nan, 0.1, 0.1]])
    np.testing.assert_allclose(mean_of(values), [0.7, 0.7, np.nan])
    assert np.isnan(mean_of(np.full((2, 3), np.nan))).all()


# ------------------------------------------------------------------------------------ stopped, and shared out


def test_a_study_that_was_killed_goes_on_where_it_was(study, tmp_path, monkeypatch):
    script = Path(__file__).with_name("study_killed.py")
    command = [sys.executable, str(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    kept = len(list((tmp_path / "jobs").glob("*.npz")))
    assert kept == 6  # both networks: three folds under each of two training masks
    trained = []
    original = Work.run
    monkeypatch.setattr(Work, "run", lambda self, jobs: trained.extend(jobs) or original(self, jobs))
    resumed = small_study(tmp_path)
    assert len(trained) == 6
    assert {job.recipe for job in trained} == {"logistic"}
    check_equal(resumed, study)
    for row, same in zip(study.table, resumed.table, strict=True):
        assert row["auroc"] == same["auroc"]  # the interval, too
    trained.clear()
    check_equal(small_study(tmp_path), study)
    assert not trained


def test_the_tokens_of_a_frozen_encoder_are_shared_by_all_recipes(tmp_path):
    recipes = {name: {"fusion": name, "frozen": ["serum"], "epochs": 1} for name in ("multimodn", "late")}
    given = {"test": [NATURAL], "folds": 3, "progress": False, "draws": 10}
    shared = missingness_study(recipes, make_tables(90), output=tmp_path, **given)
    assert len(list((tmp_path / "tokens").iterdir())) == 3  # folds, not folds x recipes
    check_equal(shared, missingness_study(recipes, make_tables(90), **given))


def test_other_settings_or_data_are_other_jobs(tmp_path, monkeypatch):
    ran = []
    original = Work.run
    monkeypatch.setattr(Work, "run", lambda self, jobs: ran.extend(jobs) or original(self, jobs))

    def run(recipe=READS, cohort=None, test=(NATURAL,), **options):
        ran.clear()
        cohort = cohort or make_tables(90)
        given = {"folds": 3, "output": tmp_path, "progress": False, "draws": 10, **options}
        missingness_study({"one": recipe}, cohort, test=list(test), **given)
        return len(ran)

    assert run() == 3
    assert run() == 0
    assert run(recipe="gradient_boosting") == 3  # another policy
    assert run(test=[NATURAL, HALF]) == 3
    assert run(cohort=make_tables(90, seed=1)) == 3
    for file in (tmp_path / "jobs").glob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])  # cut off, as by a full disk
    assert run() == 3


def test_several_processes_give_the_same_numbers_bit_for_bit(study):
    alone, shared = answers(study), answers(small_study(workers=2, train=[NATURAL]))
    assert len(shared) == len(alone) / 2
    for key, values in shared.items():
        np.testing.assert_array_equal(values, alone[key])


# -------------------------------------------------------------------------------------------- what goes wrong


def test_a_job_that_fails_is_reported_and_the_others_go_on():
    recipes = {"wrong": {"fusion": ["multimodn", {"hiden": 3}]}, "fine": "logistic_regression"}
    study = missingness_study(recipes, make_tables(90), test=[NATURAL], folds=3, progress=False, draws=10)
    assert len(study.errors) == 3
    assert all("wrong" in job and "hiden" in error for job, error in study.errors.items())
    failed, fine = study.table
    assert np.isnan(failed["auroc"].value)
    assert failed["note"].startswith("3 of 3 jobs failed")
    assert np.isfinite(fine["auroc"].value)
    assert "3 of 6 jobs failed" in study.to_markdown()
    assert study.differences()[0]["difference"] is None


def test_a_modality_that_nobody_has_left_is_an_error_of_its_jobs():
    gone = Mechanism("drop_one", {"modality": "serum"})
    study = missingness_study(
        {"l": "logistic_regression"},
        make_tables(90),
        [NATURAL, gone],
        [NATURAL],
        folds=3,
        progress=False,
        draws=10,
    )
    assert len(study.errors) == 3
    assert all("serum" in error for error in study.errors.values())
    assert [row["members"] for row in study.table] == [3, 0]


def test_one_member_that_cannot_learn_does_not_take_the_others_along(monkeypatch):
    original = Recipe.build

    def build(self, schema, seed, built=[]):  # noqa: B006
        built.append(seed)
        if len(built) > 1 and len(set(built)) == 2:  # the second fold of this recipe
            raise RuntimeError("no luck")
        return original(self, schema, seed)

    monkeypatch.setattr(Recipe, "build", build)
    study = missingness_study(
        {"l": "logistic_regression"}, make_tables(90), test=[NATURAL], folds=3, progress=False, draws=10
    )
    assert list(study.errors.values()) == ["RuntimeError: no luck"]
    assert study.table[0]["members"] == 2


def test_a_score_that_a_fold_does_not_have_is_a_stated_gap():
    frame = make_frame(90)
    frame["rare"] = [int(i < 4) if i < 40 else None for i in range(90)]
    frame["rare"] = frame["rare"].astype("Int64")
    tables = {"vitals": ["pulse"], "serum": ["crp", "lactate"]}
    cohort = Cohort.from_frame(frame, tabular=tables, target={"sick": "sick", "rare": "rare"}, id="id")
    options = {"test": [NATURAL], "folds": 3, "progress": False, "draws": 20}
    study = missingness_study({"l": "logistic_regression"}, cohort, **options)
    fold = study.scorer.work.whole_folds[0][1]["test"]
    study.scorer._known[0, 1, "rare"] = np.full(len(fold), np.nan)  # as if nobody in this fold had a label
    jobs = study.scorer.jobs("l", "as recorded")
    values = study.scorer.scores(jobs, "as recorded", "rare", ["auroc"])["auroc"]
    assert values.lost == 1
    said = values.mean(False, 40, 40)
    assert np.isfinite(said.value)
    assert "1 members could not be scored" in said.note


def test_a_cohort_without_labels_is_refused():
    frame = make_frame(90)
    frame["sick"] = frame["sick"].astype("Int64").where(np.arange(90) < 60)
    cohort = Cohort.from_frame(frame, tabular=["pulse", "crp"], target="sick", id="id")
    with pytest.raises(ValueError, match="known label"):
        missingness_study({"l": "logistic_regression"}, cohort[60:], [NATURAL], folds=3, progress=False)


def test_wrong_arguments_are_refused_before_anything_is_trained():
    cohort = make_tables(60)
    with pytest.raises(ValueError, match="one at least"):
        missingness_study({}, cohort)
    with pytest.raises(ValueError, match="modality"):
        missingness_study({"l": "logistic_regression"}, cohort, [Mechanism("drop_one", {"modality": "x"})])
    with pytest.raises(ValueError, match="folds"):
        missingness_study({"l": "logistic_regression"}, cohort, folds=2)
    with pytest.raises(ValueError, match="workers"):
        missingness_study({"l": "logistic_regression"}, cohort, workers=-1)


# ----------------------------------------------------------------------------------------- recipes and files


def test_a_recipe_is_plain_and_can_be_read_back():
    recipe = Recipe(
        ("multimodn", {"hidden": 8}), {"serum": ["mlp", {"dropout": 0.1}]}, Policy(0.1), frozen="serum"
    )
    facts = json.loads(json.dumps(recipe.facts()))
    assert Recipe.of(facts) == recipe
    assert Recipe.of("concat") == Recipe("concat")
    with pytest.raises(ValueError, match="ready-made module"):
        Recipe(fusion=create_model(make_tables(60).schema).fusion)
    with pytest.raises(ValueError, match="epoch"):
        Recipe.of({"epoch": 3})
    with pytest.raises(ValueError, match="got 7"):
        Recipe.of(7)


def test_everything_is_saved_and_drawn(study, tmp_path):
    study.save(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    assert {
        "study.csv",
        "study.json",
        "members.json",
        "jobs.csv",
        "differences.csv",
        "protocol.json",
    } <= names
    assert "study.png" in names
    protocol = json.loads((tmp_path / "protocol.json").read_text())
    assert Recipe.of(protocol["recipes"]["gated"]) == SMALL
    assert Mechanism.from_dict(protocol["test"]["mcar 50 %"]) == HALF
    figure = study.plot(metric="brier")
    assert len(figure.axes) == 2  # one panel for each training mask
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["gated", "logistic"]
    points = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    drawn = {round(float(point.get_xdata()[0]), 6) for point in points}
    assert drawn == {round(row["brier"].value, 6) for row in study.table.where(trained_on="as recorded")}


def test_a_bar_over_jobs_is_shown_on_stderr(capsys):
    small_study(progress=True, test=[NATURAL], train=[NATURAL], folds=3)
    shown = capsys.readouterr()
    assert "6/6" in shown.err
    assert not shown.out


def test_one_changed_cell_makes_another_study_of_it():
    """Two records of one fold swap a number: labels, ids, presence and statistics stay what they were."""
    frame, tables = make_frame(90), {**TABLES, "demographics": [*TABLES["demographics"], "sex"]}
    fold = Cohort.from_frame(frame, tabular=tables, target="sick", id="id").folds(3)[0]
    rows = np.flatnonzero((fold.splits == "train") & fold.present.all(axis=1))[:2]
    swapped = frame.copy()
    column = frame.columns.get_loc(TABLES["vitals"][0])
    swapped.iloc[rows, column] = frame.iloc[rows[::-1], column].to_numpy()
    prints = []
    for table in (frame, frame.copy(), swapped):
        cohort = Cohort.from_frame(table, tabular=tables, target="sick", id="id")
        work = Work(cohort, {"gated": SMALL}, {"all": NATURAL}, {"all": NATURAL}, 3, (0,))
        prints.append(work.fingerprint(Job("gated", "all", 0, 0)))
    assert prints[0] == prints[1] != prints[2]


def test_an_unknown_fusion_is_refused_before_anything_is_trained():
    with pytest.raises(ValueError, match='Did you mean "cascade"'):
        Recipe.of("casade")
