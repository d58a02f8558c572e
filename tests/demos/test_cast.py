"""What the page is given: examples that are what they are called, counts that are true, models that fit."""

import json
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from mmmed_demo import cast as cast_of
from mmmed_demo.examples import disagreement, examples_of

import mmmed
from mmmed.models.inference import calibrate
from mmmed.types import Binary, Number, Schema, Tabular


@pytest.fixture(scope="module")
def cohort():
    """Synthetic patients, some of whom have lost something."""
    return mmmed.load_cohort("synthetic", patients=90, seed=0)


@pytest.fixture(scope="module")
def model(cohort):
    """A model that has learned nothing but is calibrated: it answers, which is enough here."""
    return calibrate(mmmed.create_model(cohort.schema, seed=0), cohort["val"])


@pytest.fixture(scope="module")
def cast(model, cohort, tmp_path_factory):
    return cast_of.open_cast(model, cohort, reports=(), masks=(), output=tmp_path_factory.mktemp("benchmark"))


def test_examples_are_what_they_are_called(cast):
    found = cast.examples
    assert list(found)[:3] == ["complete", "no image", "note only"]
    assert found["complete"].present == ("image", "table", "text")
    assert found["no image"].present == ("table", "text")
    assert found["note only"].present == ("text",)
    assert found["nothing recorded"].present == ()


def test_the_conflict_pulls_harder_than_any_other_example(model, cohort, cast):
    def pull(record):
        return disagreement(mmmed.predict(model, record)["diagnosis"].contributions.values())

    worst = max(pull(record) for record in cohort["test"])
    assert pull(cast.examples["conflict"]) == worst > 0


def test_disagreement_is_the_weaker_side():
    assert disagreement([2.0, -0.5, 0.1]) == pytest.approx(0.5)
    assert disagreement([2.0, 0.1]) == disagreement([]) == 0


def test_examples_are_found_without_asking_the_model_about_everybody(model, cohort, monkeypatch):
    asked = []
    monkeypatch.setattr("mmmed_demo.examples.LOOKS", 3)
    answer = mmmed.predict
    monkeypatch.setattr("mmmed_demo.examples.predict", lambda *a: asked.append(a) or answer(*a))
    examples_of(model, cohort["test"])
    assert len(asked) == 3


def test_records_are_counted_by_exactly_what_they_have(model, cohort):
    train = cohort["train"]
    counts = cast_of.counts_of(train, model.modalities)
    assert sum(counts.values()) == len(train)
    for pattern, count in counts.items():
        assert count == sum(set(record.present) == set(pattern) for record in train)


def test_after_modality_dropout_a_whole_record_counts_for_its_parts(model):
    counts = {("image", "table", "text"): 5, ("table",): 2}
    cast = cast_of.Cast(model, "", training_counts=counts)
    before = model.card
    try:
        model.card = {"training": {"modality dropout": 0.3}}
        assert (cast.trained(["table"]), cast.hidden_down_to(["table"])) == (2, 7)
        assert (cast.trained(["text", "image"]), cast.hidden_down_to(["text", "image"])) == (0, 5)
        model.card = {}
        assert cast.hidden_down_to(["table"]) == 2
    finally:
        model.card = before


def test_the_line_of_the_benchmark_is_found_in_any_order_of_names(cast, cohort):
    row = cast.tested(["text", "image"], "diagnosis")
    assert row["seen"] == "image + text"
    assert cast.tested([], "diagnosis") is None


def test_how_many_records_were_scored_is_told_from_how_many_had_the_inputs(cohort, model, cast):
    test = cohort["test"]
    row = cast.tested(["text", "image"], "diagnosis")
    assert (row["n"], row["had"]) == (len(test), len(test)), "here nobody has lost anything"
    keep = np.ones_like(test.present)
    keep[:3, 0] = False
    held = cast_of.missingness_benchmark(model, test.keep(keep.astype(bool)), mechanisms=())
    row = cast_of.Cast(model, "", benchmark=held).tested(["text", "image"], "diagnosis")
    assert (row["n"], row["had"]) == (len(test), len(test) - 3)


@pytest.mark.parametrize(
    "data", ["", "synthetic: {} train records and {} val records.", "mine: 90 train records."]
)
def test_records_of_another_cohort_are_not_called_those_the_model_learned_from(model, cohort, data, tmp_path):
    before = model.card
    try:
        model.card = {"data": data.format(len(cohort["train"]), len(cohort["val"]))}
        own = data.startswith("synthetic")
        found = cast_of.open_cast(model, cohort, reports=(), masks=(), output=tmp_path)
        assert found.own is cast_of.is_own(model, cohort) is own
        assert any("may not know" in note for note in found.notes) is not own
        assert not cast_of.is_own(model, cohort[:80]), "not as many records"
    finally:
        model.card = before


def test_the_usual_range_of_a_number_leaves_out_what_was_not_recorded(cohort):
    train = cohort["train"]
    keep = np.ones_like(train.present)
    keep[:30, list(train.schema.modalities).index("table")] = False
    ages = np.array([record.inputs["table"]["age"] for record in train[30:]])
    found = cast_of.ranges_of(train.keep(keep.astype(bool)))
    assert found["age"] == pytest.approx(np.percentile(ages, [5, 95]))
    assert "sex" not in found
    assert cast_of.ranges_of(train.keep(np.zeros(keep.shape, bool))) == {}


def test_a_table_that_is_called_synthetic_does_not_get_the_card_of_patients_who_do_not_exist(
    cohort, tmp_path
):
    table = tmp_path / "synthetic.csv"
    cohort.to_frame().drop(columns=["picture"]).to_csv(table, index=False)
    mine = mmmed.Cohort.from_csv(
        table, tabular=["age", "ldh"], target="diagnosis", group="patient", split="split"
    )
    assert mine.name == "synthetic"
    assert cast_of.data_card_of(mine) == ""


def test_the_data_card_says_when_it_counts_other_records_than_those_of_the_page(cohort):
    told = cast_of.data_card_of(cohort)
    assert told.startswith("*Counted on 600 records; this page has 90 of the same kind.*")
    assert "# " in told


def test_without_a_cohort_the_page_has_a_model_and_says_what_it_lacks(model):
    cast = cast_of.open_cast(model, reports=(), masks=())
    assert (cast.examples, cast.benchmark, cast.encoded) == ({}, None, None)
    assert "no examples" in cast.notes[0]
    assert "A multimodal model" in cast.model_card
    assert not cast.model_card.startswith("---"), "the header is for the hub"


def test_a_cohort_of_other_columns_is_refused(cohort):
    other = mmmed.create_model(Schema({"labs": Tabular((Number("crp"),))}, {"ill": Binary("ill")}))
    with pytest.raises(ValueError, match="The model reads 'labs' from crp"):
        cast_of.open_cast(other, cohort)


# ------------------------------------------------------------------------------------- models that come later


def shelf(folder, schema, monkeypatch, found):
    """A shelf that loads `found`; -> the shelf, and what was loaded."""
    loaded = []
    monkeypatch.setattr(cast_of, "load_model", lambda place: loaded.append(place) or found)
    return cast_of.Shelf([folder / "first", folder / "second"], schema, "generate"), loaded


def put(folder):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({}))


def reporter_for(schema):
    return SimpleNamespace(modalities=tuple(schema.modalities), schema=schema, generate=None)


def test_a_model_that_comes_later_is_found_and_loaded_once(cohort, tmp_path, monkeypatch):
    found = reporter_for(cohort.schema)
    look, loaded = shelf(tmp_path, cohort.schema, monkeypatch, found)
    assert look() is None
    put(tmp_path / "second")
    together = []
    threads = [threading.Thread(target=lambda: together.append(look())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [found] * 8
    assert loaded == [tmp_path / "second"]


def test_a_model_for_other_records_is_left_alone_and_it_is_said_why(cohort, tmp_path, monkeypatch):
    other = Schema({"table": Tabular((Number("crp"),))})
    look, loaded = shelf(tmp_path, cohort.schema, monkeypatch, reporter_for(other))
    put(tmp_path / "first")
    assert look() is look() is None
    assert len(loaded) == 1, "what does not fit is not loaded again for every visitor"
    assert "crp" in look.problem


def test_a_model_of_another_kind_is_no_report_generator(cohort, model, tmp_path, monkeypatch):
    look, _ = shelf(tmp_path, cohort.schema, monkeypatch, model)
    put(tmp_path / "first")
    assert look() is None
    assert "cannot generate" in look.problem
