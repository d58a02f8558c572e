"""Several models: the same masks and patients for all, paired differences, answers that survive a kill."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest

import mmmed
from mmmed.data.missingness import Mechanism, standard_mechanisms
from mmmed.evaluation import asking
from mmmed.evaluation.asking import Answers, asker_of, fingerprint
from mmmed.evaluation.benchmark import missingness_benchmark
from mmmed.evaluation.bootstrap import difference
from mmmed.evaluation.metrics import auroc
from mmmed.evaluation.tasks import answers_of


class Asked:
    """A 'model' that remembers every mask it was asked, and answers by how much is present."""

    def __init__(self, weights=(0.1, 0.3, 0.5), limit=10**6):
        self.weights, self.masks, self.limit = 0.9 * np.array(weights) / np.sum(weights), [], limit

    def asker(self, cohort):
        def ask(stays):
            if len(self.masks) >= self.limit:
                raise RuntimeError("killed")
            self.masks.append(stays.copy())
            return {task: (stays @ self.weights + 0.05)[:, None] for task in cohort.schema.tasks}

        return ask


@pytest.fixture(scope="module")
def synthetic():
    return mmmed.load_cohort("synthetic", patients=150, seed=0)


@pytest.fixture(scope="module")
def model(synthetic):
    return mmmed.create_model(synthetic.schema, dim=16, state_dim=16)


# ------------------------------------------------------------------------------------------------------ masks


def test_every_model_is_asked_exactly_the_same_masks_each_of_them_once(cohort):
    models = {"one": Asked(), "two": Asked((0.5, 0.1, 0.1))}
    missingness_benchmark(models, cohort["test"], draws=5)
    one, two = (np.array(model.masks) for model in models.values())
    np.testing.assert_array_equal(one, two)
    assert len({mask.tobytes() for mask in one}) == len(one)


def test_masks_belong_to_records_whatever_their_order(cohort):
    part = cohort["test"]
    back = np.arange(len(part))[::-1]
    forth = missingness_benchmark(Asked(), part, draws=5)
    again = missingness_benchmark(Asked(), part.where(back), draws=5)
    assert [row["seen"] for row in forth.table] == [row["seen"] for row in again.table]
    for a, b in zip(forth.table, again.table, strict=True):
        assert a["auroc"].value == pytest.approx(b["auroc"].value, abs=1e-12)


def test_the_first_model_scores_the_same_alone_and_in_company(cohort):
    part = cohort["test"]
    alone = missingness_benchmark(Asked(), part, draws=20)
    both = missingness_benchmark({"a": Asked(), "b": Asked((1, 2, 3))}, part, draws=20)
    assert "model" not in alone.table.columns
    rows = both.table.where(model="a")
    assert [row["auroc"] for row in rows] == [row["auroc"] for row in alone.table]
    assert both.models == ("a", "b")
    assert set(both.patterns.column("model")) == {"a", "b"}


def test_an_object_with_an_asker_is_asked_through_it(cohort):
    part, model = cohort["test"], Asked()
    np.testing.assert_allclose(answers_of(model, part)["ill"], part.present @ model.weights + 0.05)
    assert asker_of(model, part)(np.zeros_like(part.present))["ill"].tolist() == [0.05] * len(part)


# ------------------------------------------------------------------------------------------------ differences


def test_a_model_does_not_differ_from_itself_at_all(cohort):
    bench = missingness_benchmark({"a": Asked(), "again": Asked()}, cohort["test"], draws=30)
    assert len(bench.differences) == len(bench.table) / 2
    for row in bench.differences:
        for name in ("auroc", "auprc", "balanced_accuracy", "brier", "ece"):
            assert (row[name].value, row[name].low, row[name].high) == (0, 0, 0)


def test_a_difference_is_the_paired_one_of_the_bootstrap(cohort):
    part, one, two = cohort["test"], Asked(), Asked((0.5, 0.2, 0.1))
    bench = missingness_benchmark({"one": one, "two": two}, part, draws=50, seed=3)
    labels = part.targets("ill")[0]
    for seen, stays in (
        ("image + text", part.only("image", "text").present),
        ("mcar 50 %", Mechanism("mcar", {"share": 0.5, "seed": 3}).apply(part)),
    ):
        first, second = (stays @ model.weights + 0.05 for model in (one, two))
        expected = difference(auroc, labels, second, first, part.groups, draws=50, seed=3)
        row = bench.differences.where(seen=seen)[0]
        assert (row["model"], row["against"]) == ("two", "one")
        assert row["auroc"] == expected


def test_one_model_has_no_differences_and_a_mapping_must_name_models(cohort):
    assert not len(missingness_benchmark({"a": Asked()}, cohort["test"], draws=5).differences)
    with pytest.raises(ValueError, match="Several models should come as"):
        missingness_benchmark({}, cohort["test"])


def test_threads_change_nothing(cohort):
    models = {"a": Asked(), "b": Asked((1, 0.1, 0.1))}
    one, two = (missingness_benchmark(models, cohort["test"], draws=30, workers=k) for k in (0, 2))
    assert one.table.to_rows() == two.table.to_rows()
    assert one.differences.to_rows() == two.differences.to_rows()


# ------------------------------------------------------------------------------------------------ going on


def count_encodings(monkeypatch):
    from mmmed.models import inference

    calls, encode = [], inference.encode_cohort
    monkeypatch.setattr(inference, "encode_cohort", lambda *given: calls.append(1) or encode(*given))
    return calls


def test_a_killed_run_goes_on_without_asking_again(synthetic, model, tmp_path, monkeypatch):
    part, calls = synthetic["test"], count_encodings(monkeypatch)
    whole = missingness_benchmark({"a": model, "b": Asked()}, part, draws=20)
    calls.clear()
    with pytest.raises(RuntimeError, match="killed"):
        missingness_benchmark({"a": model, "b": Asked(limit=3)}, part, draws=20, output=tmp_path)
    assert len(calls) == 1
    assert not (tmp_path / "missingness.csv").exists()
    rest = missingness_benchmark({"a": model, "b": Asked()}, part, draws=20, output=tmp_path)
    assert len(calls) == 1  # the first model was not even encoded
    assert rest.table.to_rows() == whole.table.to_rows()


def test_a_run_killed_within_a_model_asks_only_what_is_left(synthetic, model, tmp_path, monkeypatch):
    part = synthetic["test"]
    masks = [row.apply(part) for row in standard_mechanisms(part)][:6]
    asked, ask = [], asking.asker_of

    def counting(*given):
        inner = ask(*given)
        return lambda stays: asked.append(1) or inner(stays)

    monkeypatch.setattr(asking, "asker_of", counting)
    Answers(model, part, tmp_path).ask_all(masks[:4])
    assert len(asked) == 4
    Answers(model, part, tmp_path).ask_all(masks)
    assert len(asked) == 6


def test_other_weights_other_records_and_other_cells_are_asked_anew(synthetic, model):
    part = synthetic["test"]
    other = copy.deepcopy(model)
    next(other.parameters()).data[0] += 0.01
    frame = part.to_frame()
    changed = frame.assign(age=frame["age"] + 1)
    options = {"schema": synthetic.schema, "root": part.folder}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        same, older = (mmmed.Cohort.from_frame(f, **options, split="split") for f in (frame, changed))
    prints = [
        fingerprint(model, part),
        fingerprint(other, part),
        fingerprint(model, part[:5]),
        fingerprint(model, older),
    ]
    assert len(set(prints)) == 4
    assert fingerprint(model, same) == prints[0]
    assert fingerprint(Asked(), part) is None


def test_a_damaged_file_is_asked_again(synthetic, model, tmp_path):
    part = synthetic["test"]
    first = Answers(model, part, tmp_path)(part.present)
    (file,) = tmp_path.iterdir()
    for content in (file.read_bytes()[:40], b"", b"not an archive"):
        file.write_bytes(content)
        again = Answers(model, part, tmp_path)(part.present)
        np.testing.assert_array_equal(again["diagnosis"], first["diagnosis"])


# ------------------------------------------------------------------------------------------------ few records


def test_one_patient_and_no_patient_give_a_table_not_an_error(cohort, model, synthetic):
    bench = missingness_benchmark({"a": Asked(), "b": Asked()}, cohort["test"][:1], draws=5)
    assert all(np.isnan(row["auroc"].value) for row in bench.table)
    for name, part in (("one", synthetic["test"][:1]), ("none", synthetic["test"][:0])):
        rows = missingness_benchmark(model, part, draws=5, subgroups=["sex", "age"]).table
        assert {row["n"] for row in rows} == {len(part)}, name
        assert all(row["note"] for row in rows)


def test_all_missing_is_answered_with_the_prior(cohort):
    part = cohort["test"]
    nothing = part.keep(np.zeros_like(part.present))
    bench = missingness_benchmark({"a": Asked(), "b": Asked()}, nothing, draws=5)
    assert {row["auroc"].value for row in bench.table} == {0.5}
    assert {row["auroc"].value for row in bench.shapley} == {0}


def test_a_bar_is_shown_on_stderr_only_where_it_was_asked_for(cohort, capsys, monkeypatch):
    import tqdm

    made, bar = [], tqdm.tqdm
    monkeypatch.setattr(tqdm, "tqdm", lambda *a, **k: made.append(k) or bar(*a, **{**k, "delay": 0}))
    missingness_benchmark(Asked(), cohort["test"], draws=5)
    assert not made
    missingness_benchmark(Asked(), cohort["test"], draws=5, progress=True)
    assert made[0]["delay"] > 0
    out, err = capsys.readouterr()
    assert not out
    assert "benchmark" in err


def test_several_models_are_drawn_and_written(cohort, tmp_path):
    many = {f"model {k}": Asked((0.1, 0.1 * k, 0.5)) for k in range(6)}
    few = dict(list(many.items())[:3])
    bench = missingness_benchmark(
        few, cohort["test"], draws=5, subgroups=["sex"], costs=True, output=tmp_path
    )
    names = {path.stem for path in tmp_path.iterdir()}
    assert {"missingness", "differences", "subgroups", "shapley", "costs", "worst"} <= names
    (axes,) = bench.plot().axes
    assert len(axes.get_yticks()) == len({row["seen"] for row in bench.table})
    assert [text.get_text() for text in bench.plot().legends[0].texts][:3] == list(few)
    markdown = bench.to_markdown()
    for title in ("Differences to model 0", "Subgroups", "What each modality adds", "Costs"):
        assert title in markdown
    line = bench.side_by_side().where(seen="image + text")[0]
    rows = bench.table.where(seen="image + text")
    assert [line[name] for name in few] == [row["auroc"] for row in rows]
    assert bench.side_by_side(metric="brier").where(seen="image + text")[0]["model 1"] == rows[1]["brier"]
    assert "model 2" in str(bench)
    figure = missingness_benchmark(many, cohort["test"], draws=5).plot()
    assert [axes.get_title() for axes in figure.axes] == list(many)
    assert len({axes.get_xlim() for axes in figure.axes}) == 1
