"""The benchmark hides exactly what it says, on the same records, and knows the best possible where there is a
truth.
"""

from __future__ import annotations

import json
import warnings
from itertools import combinations

import numpy as np
import pytest
from small_cohorts import cohort_of, frame_of

import mmmed
from mmmed.data.missingness import Mechanism
from mmmed.evaluation.benchmark import missingness_benchmark
from mmmed.evaluation.metrics import auroc


def counting(cohort):
    """A 'model' that answers by how much is present, so that hiding is visible in its answer."""
    return {"ill": cohort.present @ np.array([0.1, 0.3, 0.5]) + 0.05}


@pytest.fixture(scope="module")
def synthetic():
    return mmmed.load_cohort("synthetic", patients=150, seed=0)


def test_every_subset_is_there_once_smaller_ones_first_in_schema_order(cohort):
    table = missingness_benchmark(counting, cohort["test"], draws=5).table
    assert [row["seen"] for row in table if row["kind"] == "subset"] == [
        "image",
        "table",
        "text",
        "image + table",
        "image + text",
        "table + text",
        "image + table + text",
    ]
    assert {row["n"] for row in table} == {len(cohort["test"])}


def test_a_line_is_what_the_model_says_about_the_cohort_with_the_rest_hidden(cohort):
    part = cohort["test"]
    table = missingness_benchmark(counting, part, mechanisms=[], draws=5).table
    for size in (1, 2, 3):
        for names in combinations(("image", "table", "text"), size):
            row = table.where(seen=" + ".join(names))[0]
            expected = auroc(part.targets("ill")[0], counting(part.only(*names))["ill"])
            assert row["auroc"].value == pytest.approx(expected)
            hidden = [k for k, name in enumerate(("image", "table", "text")) if name not in names]
            assert row["changed"] == pytest.approx(part.present[:, hidden].any(axis=1).mean())
            shown = [k for k in range(3) if k not in hidden]
            assert row["complete"] == pytest.approx(part.present[:, shown].all(axis=1).mean())


def test_mechanisms_are_asked_on_their_own_mask_and_repetitions_of_subsets_are_left_out(cohort):
    part = cohort["test"]
    mechanisms = [
        Mechanism("natural"),
        Mechanism("drop_one", {"modality": "image"}),
        Mechanism("mcar", {"share": 0.5, "seed": 3}),
        Mechanism("mnar_by_label", {"task": "ill", "modality": "text"}),
    ]
    bench = missingness_benchmark(counting, part, mechanisms, draws=5)
    rows = [row for row in bench.table if row["kind"] == "mechanism"]
    assert [row["seen"] for row in rows] == ["mcar 50 %", "by label ill: text"]
    stays = mechanisms[2].apply(part)
    expected = auroc(part.targets("ill")[0], counting(part.keep(stays))["ill"])
    assert rows[0]["auroc"].value == pytest.approx(expected)
    assert [item["name"] for item in bench.protocol["mechanisms"]] == [
        "natural",
        "drop_one",
        "mcar",
        "mnar_by_label",
    ]


def test_a_mechanism_about_one_task_is_scored_for_that_task_only():
    frame = frame_of(80)
    frame["late"] = np.random.default_rng(0).integers(0, 2, 80)
    part = cohort_of(frame, target=["ill", "late"])["train"]

    def model(seen):
        return {"ill": counting(seen)["ill"], "late": counting(seen)["ill"]}

    bench = missingness_benchmark(
        model, part, [Mechanism("mnar_by_label", {"task": "late", "modality": "text"})], draws=5
    )
    assert bench.tasks == ("ill", "late")
    assert [row["task"] for row in bench.table if row["kind"] == "mechanism"] == ["late"]


def test_the_exact_posterior_goes_the_whole_way_and_a_worse_model_less(synthetic):
    part = synthetic["test"]
    best = missingness_benchmark(lambda seen: seen.truth.posterior(), part, draws=5).table
    shares = [row["share_of_way"] for row in best if row["share_of_way"] is not None]
    assert shares == pytest.approx([1] * len(shares))
    assert len(shares) > 10
    rng = np.random.default_rng(0)

    def worse(seen):
        exact = seen.truth.posterior()["diagnosis"]
        return np.clip(exact + rng.normal(scale=0.4, size=len(exact)), 0, 1)

    rows = missingness_benchmark(worse, part, draws=5).table
    assert np.mean([row["share_of_way"] for row in rows if row["share_of_way"] is not None]) < 0.9
    np.testing.assert_allclose(
        [float(value) for value in rows.column("ceiling")], [float(row["auroc"]) for row in best]
    )


def test_ceilings_can_be_given_for_any_cohort(cohort):
    part = cohort["test"]
    labels = part.targets("ill")[0]
    table = missingness_benchmark(counting, part, draws=5, ceilings=lambda stays: {"ill": labels}).table
    assert set(table.column("ceiling")) == {1.0}
    row = table[0]
    assert row["share_of_way"] == pytest.approx((row["auroc"].value - 0.5) / 0.5)


def test_nothing_is_written_but_the_folder_that_was_asked_for(cohort, tmp_path):
    bench = missingness_benchmark(counting, cohort["test"], draws=5, output=tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "missingness.csv",
        "missingness.json",
        "missingness.png",
        "patterns.csv",
        "patterns.json",
        "protocol.json",
        "shapley.csv",
        "shapley.json",
        "worst.csv",
        "worst.json",
    ]
    assert (tmp_path / "out" / "missingness.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    protocol = json.loads((tmp_path / "out" / "protocol.json").read_text())
    assert protocol["seed"] == 0
    assert [Mechanism.from_dict(item).label for item in protocol["mechanisms"]][1] == "mcar 10 %"
    assert bench.patterns[0]["rows"] == "all"
    assert "image + table" in bench._repr_html_()


def test_the_figure_has_a_line_per_row_and_marks_the_best_possible(synthetic):
    bench = missingness_benchmark(lambda seen: seen.truth.posterior(), synthetic["test"], draws=5)
    axes = bench.plot().axes[0]
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == [row["seen"] for row in bench.table]
    assert [text.get_text() for text in bench.plot().legends[0].texts] == [
        "this model",
        "best possible on the same records",
        "no skill",
    ]
    with pytest.raises(ValueError, match="Unknown task"):
        bench.plot("diagnoses")


def test_training_rows_are_remarked(cohort):
    with pytest.warns(UserWarning, match="training part"):
        missingness_benchmark(counting, cohort, mechanisms=[], draws=5)


def test_more_than_five_modalities_are_not_tried_in_every_combination():
    frame = frame_of(40)
    for k in range(6):
        frame[f"lab{k}"] = np.random.default_rng(k).normal(size=40)
    part = cohort_of(frame, image=None, text=None, tabular={f"part{k}": [f"lab{k}"] for k in range(6)})[
        "train"
    ]
    table = missingness_benchmark(lambda seen: np.full(len(seen), 0.5), part, draws=5).table
    assert len([row for row in table if row["kind"] == "subset"]) == 1
    assert {"without part0", "only part5"} <= set(table.column("seen"))


def test_a_model_of_the_package_is_encoded_once_and_answers_as_if_asked_anew(synthetic, monkeypatch):
    part = synthetic["test"]
    model = mmmed.create_model(synthetic.schema, dim=16, state_dim=16)
    from mmmed.models import inference

    calls = []
    encode = inference.encode_cohort
    monkeypatch.setattr(inference, "encode_cohort", lambda *given: calls.append(1) or encode(*given))
    bench = missingness_benchmark(model, part, draws=5)
    assert len(calls) == 1
    mcar = Mechanism("mcar", {"share": 0.3, "seed": 0})
    for seen, shown in (
        ("image + text", part.only("image", "text")),
        (mcar.label, part.keep(mcar.apply(part))),
    ):
        said = inference.predict_proba(model, shown)["diagnosis"][:, 0]
        expected = auroc(part.targets("diagnosis")[0], said)
        assert bench.table.where(seen=seen)[0]["auroc"].value == pytest.approx(expected, abs=1e-6)


def test_an_answer_of_only_one_class_gives_a_table_not_an_error(cohort):
    part = cohort["test"]
    ill = part.where(part.targets("ill")[0] == 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        row = missingness_benchmark(counting, ill, mechanisms=[], draws=5).table[0]
    assert np.isnan(row["auroc"].value)
    assert "one class" in row["note"]


def test_an_unknown_score_is_refused(cohort):
    with pytest.raises(ValueError, match='Did you mean "auroc"'):
        missingness_benchmark(lambda part: np.full(len(part), 0.5), cohort, metric="auorc")
