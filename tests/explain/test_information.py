"""Value of information: what is ranked, against the obvious loop and against an answer known in advance."""

import numpy as np
import pandas as pd
import pytest

import mmmed
from mmmed.explain import value_of_information
from mmmed.explain.information import Expectation, ValueOfInformation
from mmmed.models.inference import encode_cohort, predict_proba
from mmmed.training.optimisation import Optimisation


def make_cohort(rows=500, seed=0):
    """Three tables: `strong` decides, `weak` helps a little, `noise` says nothing."""
    draw = np.random.default_rng(seed)
    sick = draw.integers(0, 2, rows)
    frame = pd.DataFrame(
        {
            "strong": draw.normal(2.0 * sick, 1),
            "weak": draw.normal(0.5 * sick, 1),
            "noise": draw.normal(0, 1, rows),
            "sick": sick,
        }
    )
    tables = {name: [name] for name in ("strong", "weak", "noise")}
    return mmmed.Cohort.from_frame(frame, tabular=tables, target="sick")


@pytest.fixture(scope="module")
def cohort():
    return make_cohort()


@pytest.fixture(scope="module")
def model(cohort):
    model = mmmed.create_model(cohort.schema, dim=16, state_dim=16)
    settings = Optimisation(lr=5e-3, weight_decay=0.01)
    mmmed.finetune(model, cohort, epochs=12, optimisation=settings, augmentation=None, progress=False)
    return model


def test_the_modality_that_decides_comes_first_and_the_one_that_says_nothing_last(model, cohort):
    training = encode_cohort(model, cohort["train"])
    records = [record.only("noise") for record in cohort["test"][:10]]
    for record in records:
        found = value_of_information(model, record, training)
        assert found.best == "strong"
    changes = {}
    for record in cohort["test"][:10]:
        for item in value_of_information(model, record.only(), training).expected:
            changes.setdefault(item.modality, []).append(item.change)
    means = {name: np.mean(values) for name, values in changes.items()}
    assert means["strong"] > 2 * means["weak"]
    assert means["weak"] > means["noise"]


def test_it_is_the_mean_over_records_that_borrow_the_modality(model, cohort):
    """The slow form: a record with the donor's cells, asked one by one."""
    train, record = cohort["train"], cohort["test"][0].only("weak")
    found = value_of_information(model, record, train, nearest=10_000)
    item = next(item for item in found.expected if item.modality == "strong")
    now = mmmed.predict(model, record)["sick"].value
    answers = [
        mmmed.predict(model, record.with_input("strong", donor.inputs["strong"]))["sick"].value
        for donor in train
    ]
    assert item.donors == len(train)
    assert found.now == pytest.approx(now, abs=1e-6)
    assert item.change == pytest.approx(np.mean(np.abs(np.array(answers) - now)), abs=1e-6)
    assert item.mean == pytest.approx(np.mean(answers), abs=1e-6)
    assert item.low == pytest.approx(np.quantile(answers, 0.05), abs=1e-6)
    threshold = model.thresholds["sick"]
    crossed = np.mean((np.array(answers) >= threshold) != (now >= threshold))
    assert item.crosses == pytest.approx(crossed)


def test_the_nearest_records_are_those_with_the_most_similar_state(model, cohort):
    train, record = cohort["train"], cohort["test"][0].only("weak")
    value = record.inputs["weak"]["weak"]
    cells = np.array([float(x) for x in train.column("weak")])
    near = train.where(np.argsort(np.abs(cells - value))[:25])
    few = value_of_information(model, record, near, nearest=25).expected
    same = value_of_information(model, record, train, nearest=25).expected
    # One table of one number: the state is a curve in that number, so both choose nearly the same records.
    for a, b in zip(sorted(few, key=str), sorted(same, key=str), strict=True):
        assert a.change == pytest.approx(b.change, abs=0.05)


def test_a_donor_must_have_the_modality_and_all_that_the_patient_has(model, cohort):
    train = cohort["train"]
    stays = np.ones((len(train), 3), dtype=bool)
    stays[:30, 0] = False  # no `strong`
    stays[30:60, 1] = False  # no `weak`
    found = value_of_information(model, cohort["test"][0].only("weak"), train.keep(stays), nearest=10_000)
    donors = {item.modality: item.donors for item in found.expected}
    assert donors == {"strong": len(train) - 60, "noise": len(train) - 30}


def test_a_modality_of_which_hardly_any_record_tells_is_named_not_ranked(model, cohort):
    train = cohort["train"]
    stays = np.ones((len(train), 3), dtype=bool)
    stays[5:, 0] = False
    found = value_of_information(model, cohort["test"][0].only("weak"), train.keep(stays))
    assert found.unknown == ("strong",)
    assert [item.modality for item in found.expected] == ["noise"]
    assert "too few" in str(found)


def test_nothing_missing_is_nothing_to_record(model, cohort):
    found = value_of_information(model, cohort["test"][0], cohort["train"])
    assert found.best is None
    assert "nothing is missing" in str(found)
    assert "nothing is missing" in found._repr_html_()


def test_how_the_donors_were_chosen_is_told(model, cohort):
    def choices(record, nearest):
        found = value_of_information(model, record, cohort["train"], nearest=nearest)
        return {item.choice for item in found.expected}, found

    known, nothing = cohort["test"][0].only("weak"), cohort["test"][0].only()
    assert choices(known, 50)[0] == {"similar"}
    assert choices(nothing, 50)[0] == {"any"}, "nothing is known that others could be similar in"
    assert choices(known, 10_000)[0] == choices(nothing, 10_000)[0] == {"all"}
    assert choices(known, 50)[1].to_dict()["expected"][0]["choice"] == "similar"


def test_the_figure_calls_donors_similar_only_where_they_are(model, cohort):
    def words(record):
        figure = value_of_information(model, record, cohort["train"], nearest=50).plot()
        return " ".join(text.get_text() for text in figure.texts)

    assert "what similar training records would lead to" in words(cohort["test"][0].only("weak"))
    assert "what training records would lead to" in words(cohort["test"][0].only())


def test_one_point_is_not_called_one_points():
    item = Expectation("ecg", 0.011, 0.1, 0.2, 0.1, None, 50)
    said = str(ValueOfInformation("r", "sepsis", "1", 0.1, (item,)))
    assert "by 1 point on average" in said


def test_the_average_answer_to_expect_is_near_the_answer_now(model, cohort):
    """What is to come cannot be known to be higher or lower: the drift is small beside the changes."""
    training = encode_cohort(model, cohort["train"])
    drifts, changes = [], []
    for record in cohort["test"]:
        found = value_of_information(model, record.only("weak"), training)
        drifts.append(found.expected[0].mean - found.now)
        changes.append(found.expected[0].change)
    assert abs(np.mean(drifts)) < np.mean(changes) / 2


def test_text_from_data_is_escaped_and_the_task_must_be_known(model, cohort):
    record = mmmed.Record("<b>x</b>", {"weak": {"weak": 1.0}})
    found = value_of_information(model, record, cohort["train"])
    assert "<b>x</b>" not in found._repr_html_()
    assert found.to_dict()["best"] == found.best
    assert found.plot()._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="Did you mean"):
        value_of_information(model, record, cohort["train"], task="sic")


def test_the_model_answers_as_before(model, cohort):
    before = predict_proba(model, cohort["test"])["sick"]
    value_of_information(model, cohort["test"][0].only("weak"), cohort["train"])
    np.testing.assert_array_equal(before, predict_proba(model, cohort["test"])["sick"])
