"""The scikit-learn estimators: a frame with holes goes in, and the promises of scikit-learn hold."""

import numpy as np
import pandas
import pytest
from sklearn.base import clone

from mmmed import MultimodalClassifier, MultimodalRegressor

ROWS = 160


def make_frame(seed: int = 0) -> pandas.DataFrame:
    """A bright square and a lab decide the label; a third of the pictures and some cells are missing."""
    generator = np.random.default_rng(seed)
    bright, lab = generator.integers(0, 2, ROWS), generator.normal(size=ROWS)
    pictures = []
    for i in range(ROWS):
        picture = generator.integers(0, 40, (32, 32)).astype(np.uint8)
        picture[10:22, 10:22] += np.uint8(60 + 120 * bright[i])
        pictures.append(picture if generator.random() > 0.33 else None)
    label = (2 * bright - 1 + 1.5 * lab + 0.5 * generator.normal(size=ROWS) > 0).astype(int)
    cells = np.where(generator.random(ROWS) < 0.1, np.nan, lab)
    return pandas.DataFrame(
        {
            "picture": pictures,
            "lab": cells,
            "sex": generator.choice(["f", "m"], ROWS),
            "patient": [f"p{i // 2}" for i in range(ROWS)],
            "label": label,
            "score": 10 + 3 * lab + bright,
        },
        index=[f"row{i}" for i in range(ROWS)],
    )


@pytest.fixture(scope="module")
def frame():
    return make_frame()


@pytest.fixture(scope="module")
def classifier(frame):
    model = MultimodalClassifier(target="label", group="patient", epochs=8, verbose=False)
    return model.fit(frame.drop(columns="score"))


def test_probabilities_keep_the_index_and_order_of_the_frame(classifier, frame):
    whole = classifier.predict_proba(frame)
    assert list(whole.index) == list(frame.index)
    assert list(whole.columns) == [0, 1]
    np.testing.assert_allclose(whole.sum(axis=1), 1)
    shuffled = frame.sample(frac=1, random_state=3)
    pandas.testing.assert_frame_equal(
        classifier.predict_proba(shuffled), whole.loc[shuffled.index], atol=1e-5
    )


def test_it_learns_and_reports_itself_next_to_every_plain_baseline(classifier):
    rows = {row["inputs"]: row["auroc"].value for row in classifier.report_}
    assert rows["model"] > 0.8
    for name in (
        "model, table only",
        "model, image only",
        "model, black picture for absent ones",
        "baseline, presence of columns only",
        "logistic regression, all inputs",
    ):
        assert name in rows, list(rows)
    assert all(np.isfinite(row["auroc"].low) for row in classifier.report_)


def test_fit_prints_the_columns_the_patterns_and_the_scores(frame, capsys):
    MultimodalClassifier(target="label", group="patient", epochs=1).fit(frame.drop(columns="score"))
    said = capsys.readouterr().out
    for word in ("image", "picture", "lab", "pattern", "AUROC", "logistic regression", "black picture"):
        assert word in said, word


def test_patients_are_never_on_both_sides(classifier):
    cohort = classifier.cohort_
    assert not set(cohort["train"].groups) & set(cohort["val"].groups)


def test_five_spellings_of_a_missing_picture_give_one_answer(classifier, frame):
    row = frame.iloc[[1]]
    answers = []
    for absent in (None, float("nan"), "", pandas.NA):
        cells = row.copy()
        cells["picture"] = pandas.Series([absent], index=row.index, dtype=object)
        answers.append(classifier.predict_proba(cells).to_numpy())
    answers.append(classifier.predict_proba(row.drop(columns="picture")).to_numpy())
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer, answers[0])


def test_explain_says_what_was_used_and_ends_at_the_probability(classifier, frame):
    row = frame.dropna().iloc[0]
    said = classifier.explain(row)
    assert set(said.used) == {"image", "table"}
    expected = classifier.predict_proba(frame.loc[[row.name]])[1].iloc[0]
    assert said["label"].value == pytest.approx(expected, abs=1e-5)
    assert said.id == row.name


def test_evaluate_scores_other_rows_with_intervals(classifier):
    table = classifier.evaluate(make_frame(seed=1))
    assert table[0]["auroc"].low < table[0]["auroc"].value < table[0]["auroc"].high


def test_parameters_can_be_read_set_and_cloned(classifier):
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    assert copy.set_params(epochs=3).epochs == 3
    assert not hasattr(copy, "model_")


def test_predict_gives_the_classes_as_they_were_written():
    frame = (
        make_frame().assign(label=lambda f: np.where(f["label"] == 1, "sick", "well")).drop(columns="score")
    )
    model = MultimodalClassifier(target="label", group="patient", epochs=1, verbose=False).fit(frame)
    assert set(model.predict(frame)) <= {"sick", "well"}
    assert set(model.classes_) == {"sick", "well"}


def test_a_regressor_predicts_in_the_unit_of_the_target(frame):
    inputs = frame.drop(columns=["label", "picture"])
    model = MultimodalRegressor(target="score", group="patient", epochs=40, verbose=False).fit(inputs)
    known = inputs.dropna()
    assert np.corrcoef(model.predict(known), known["score"])[0, 1] > 0.8
    assert abs(model.predict(known).mean() - known["score"].mean()) < 1
    assert model.score(known, known["score"]) > 0.5


def test_a_target_given_apart_is_the_same_as_a_column(frame):
    inputs = frame.drop(columns=["score", "picture"])
    with_column = MultimodalClassifier(target="label", group="patient", epochs=1, verbose=False).fit(inputs)
    apart = clone(with_column).fit(inputs.drop(columns="label"), inputs["label"])
    np.testing.assert_allclose(apart.predict_proba(inputs), with_column.predict_proba(inputs), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="label"), "no column of the frame"),
        (lambda f: f.assign(label=1), "label"),
        (lambda f: f.iloc[:0], "no rows"),
        (lambda f: f.to_numpy(), "DataFrame"),
    ],
)
def test_a_frame_that_cannot_be_learned_from_is_refused_in_words(frame, change, message):
    with pytest.raises(ValueError, match=message):
        MultimodalClassifier(target="label", epochs=1, verbose=False).fit(
            change(frame.drop(columns="picture"))
        )
