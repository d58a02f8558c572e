"""Reference models: the verbs of a network, mean imputation and native gaps, and what the policy cures."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import mmmed
from mmmed.data.missingness import mcar, mnar_by_label
from mmmed.evaluation.metrics import auroc
from mmmed.models.inference import predict_proba
from mmmed.training.policy import Policy
from mmmed.types import Binary, Multiclass, Multilabel, Number, Regression, Schema, Tabular, Text

NAMES = ("logistic_regression", "gradient_boosting")
BARE = Policy(dropout=0.0, reweight=False)


def make_frame(rows=300, seed=0):
    draw = np.random.default_rng(seed)
    sick = draw.integers(0, 2, rows)
    frame = pd.DataFrame({f"a{k}": draw.normal(0.8 * sick, 1) for k in range(2)})
    frame["b0"] = draw.normal(sick, 1)
    frame["ward"] = draw.choice(["x", "y"], rows)
    frame["note"] = np.where(draw.random(rows) < 0.3 + 0.4 * sick, "cough and fever", "no finding")
    return frame.assign(sick=sick, stage=draw.integers(0, 3, rows), days=draw.normal(5 + 2 * sick, 1))


@pytest.fixture(scope="module")
def cohort():
    return mmmed.Cohort.from_frame(
        make_frame(), tabular={"a": ["a0", "a1"], "b": ["b0", "ward"]}, text="note", target="sick"
    )


@pytest.fixture(scope="module", params=NAMES)
def model(request, cohort):
    model = mmmed.create_model(cohort.schema, fusion=request.param)
    mmmed.finetune(model, cohort, progress=False)
    return model


def test_it_answers_like_a_network(model, cohort):
    test = cohort["test"]
    chances = predict_proba(model, test)["sick"]
    assert chances.shape == (len(test), 1)
    assert auroc(test.targets("sick")[0], chances[:, 0]) > 0.75
    assert mmmed.evaluate(model, test, draws=20).where(rows="all")[0]["auroc"].value > 0.75
    assert model.calibration
    assert 0 < model.thresholds["sick"] < 1
    assert model.parameters_count > 3


def test_one_record_gets_what_it_gets_in_the_cohort_with_the_way_to_it(model, cohort):
    test = cohort["test"].keep(mcar(cohort["test"], 0.4))
    chances = predict_proba(model, test)["sick"][:, 0]
    for index in range(8):
        prediction = mmmed.predict(model, test[index])
        assert prediction["sick"].value == pytest.approx(chances[index], abs=1e-9)
        assert prediction.used == tuple(name for name in model.modalities if name in test[index].inputs)
        assert prediction.state is None
        spread = sum(prediction["sick"].contributions.values())
        odds = [np.log(p / (1 - p)) for p in (prediction["sick"].value, prediction["sick"].prior["1"])]
        assert spread == pytest.approx(odds[0] - odds[1], abs=1e-6)


def test_what_is_hidden_is_not_read(model, cohort):
    test = cohort["test"]
    stays = mcar(test, 0.5)
    ask = model.asker(test)
    hidden = predict_proba(model, test.keep(stays))["sick"]
    np.testing.assert_allclose(ask(stays)["sick"], hidden, atol=1e-12)


def test_the_benchmark_takes_it(model, cohort):
    bench = mmmed.missingness_benchmark(model, cohort["test"], draws=20)
    assert {"a", "a + b + text"} <= set(bench.table.column("seen"))


def test_logistic_regression_with_mean_imputation_is_that_of_scikit_learn(cohort):
    """One table of complete numbers, no dropout, no weights: the plain library call on standardised cells."""
    frame = make_frame()
    numbers = mmmed.Cohort.from_frame(frame, tabular=["a0", "a1", "b0"], target="sick")
    model = mmmed.create_model(numbers.schema, fusion="logistic_regression")
    mmmed.finetune(model, numbers, policy=BARE, progress=False)
    train, test = numbers["train"], numbers["test"]
    x, z = (np.array([part.column(c) for c in ("a0", "a1", "b0")], dtype=float).T for part in (train, test))
    x, z = (x - x.mean(0)) / x.std(0), (z - x.mean(0)) / x.std(0)
    plain = LogisticRegression(C=0.3, max_iter=1000).fit(x, train.targets("sick")[0])
    logits = model.logits(model.read(test), np.ones((len(test), 1), dtype=bool))["sick"]
    np.testing.assert_allclose(logits[:, 0], plain.decision_function(z), atol=1e-4)


def test_a_hidden_modality_is_the_mean_for_one_and_a_gap_for_the_other(cohort):
    test = cohort["test"]
    for name, blank in zip(NAMES, (0.0, np.nan), strict=True):
        model = mmmed.create_model(cohort.schema, fusion=name)
        mmmed.finetune(model, cohort, policy=BARE, progress=False)
        numbers = model.read(test)
        rows = model._design(numbers.values, np.zeros((len(test), 3), dtype=bool))
        np.testing.assert_array_equal(rows, np.full_like(rows, blank))


def test_every_kind_of_task_is_answered():
    frame = make_frame().assign(
        cough=lambda f: (f.a0 > 0).astype(int), fever=lambda f: (f.b0 > 0.5).astype(int)
    )
    tasks = {
        "sick": Binary("sick"),
        "stage": Multiclass("stage", ("0", "1", "2")),
        "signs": Multilabel(("cough", "fever")),
        "days": Regression("days", unit="d"),
    }
    tables = {"a": Tabular((Number("a0"), Number("a1"))), "b": Tabular((Number("b0"),))}
    cohort = mmmed.Cohort.from_frame(frame, schema=Schema({**tables, "note": Text("note")}, tasks))
    cohort = cohort.split()
    for name in NAMES:
        model = mmmed.create_model(cohort.schema, fusion=name)
        mmmed.finetune(model, cohort, progress=False)
        chances = predict_proba(model, cohort["test"])
        assert {k: v.shape[1] for k, v in chances.items()} == {"sick": 1, "stage": 3, "signs": 2, "days": 1}
        np.testing.assert_allclose(chances["stage"].sum(1), 1, atol=1e-6)
        truth = cohort["test"].targets("days")[0]
        assert np.corrcoef(chances["days"][:, 0], truth)[0, 1] > 0.3
        assert abs(chances["days"].mean() - truth.mean()) < 0.5  # in days, not in standard deviations
        assert set(mmmed.predict(model, cohort["test"][0]).answers) == set(tasks)


def test_a_flipped_pattern_ruins_undefended_boosting_and_the_policy_helps():
    cohort = mmmed.Cohort.from_frame(
        make_frame(900, seed=1), tabular={"a": ["a0", "a1"], "b": ["b0"]}, target="sick"
    )
    stays = mnar_by_label(cohort, "sick", "b", positive=0.8, negative=0.0)
    flipped = cohort["test"].keep(mnar_by_label(cohort["test"], "sick", "b", 0.8, 0.0, flipped=True))
    labels, scores = flipped.targets("sick")[0], {}
    for name in NAMES:
        for policy in (BARE, Policy()):
            model = mmmed.create_model(cohort.schema, fusion=name)
            mmmed.finetune(model, cohort.keep(stays), policy=policy, progress=False)
            answer = auroc(labels, predict_proba(model, flipped)["sick"][:, 0])
            scores[name, "bare" if policy == BARE else "defended"] = answer
    assert scores["gradient_boosting", "bare"] < 0.3
    assert scores["gradient_boosting", "defended"] > scores["gradient_boosting", "bare"] + 0.2
    # Mean imputation cannot see a gap as such: hardly hurt to begin with, and best of all with the policy.
    assert scores["logistic_regression", "bare"] > scores["gradient_boosting", "defended"]
    assert scores["logistic_regression", "defended"] > 0.6


def test_an_unfitted_model_and_saving_say_what_to_do(cohort, tmp_path):
    model = mmmed.create_model(cohort.schema, fusion="logistic_regression")
    with pytest.raises(ValueError, match="finetune"):
        model(cohort["test"])
    with pytest.raises(ValueError, match="unpickling"):
        model.save_pretrained(tmp_path / "model")


def test_one_class_or_no_label_in_training_is_answered_with_what_is_known(cohort):
    frame = make_frame(60).assign(sick=1)
    only = Schema({"a": Tabular((Number("a0"),))}, {"sick": Binary("sick")})
    cohort = mmmed.Cohort.from_frame(frame, schema=only)
    for name in NAMES:
        model = mmmed.create_model(cohort.schema, fusion=name)
        mmmed.finetune(model, cohort, progress=False)
        assert (predict_proba(model, cohort["test"])["sick"] > 0.9).all()
