"""One record's prediction: where it ends, how it adds up, and that it is the same as in a cohort."""

import json
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_model import SCHEMA, SmallCohort, calibrated, make_model, make_record, make_records
from torch import nn

from mmmed.checks import MissingFile
from mmmed.models.calibration import log_odds
from mmmed.models.create import create_model
from mmmed.models.inference import calibrate, predict_proba
from mmmed.models.predict import MOST_EXACT, predict, shapley
from mmmed.types import Binary, Number, Record, Schema, Tabular


@pytest.fixture(scope="module", params=["multimodn", "concat"])
def model(request):
    """Calibrated, so that every number below is on the scale that users see."""
    return calibrated(make_model(request.param))


@pytest.fixture(params=[(True, True, True), (True, False, True), (False, True, False)], ids=str)
def record(request):
    return make_record(0, np.random.default_rng(3), request.param)


def keys(values):
    return list(values)


def test_the_trajectory_follows_the_fusion_and_ends_at_the_answer(model, record):
    prediction = predict(model, record)
    assert prediction.used == tuple(name for name in model.modalities if name in record.inputs)
    assert prediction.missing == tuple(name for name in model.modalities if name not in record.inputs)
    for answer in prediction.answers.values():
        assert tuple(name for name, _ in answer.trajectory) == prediction.used
        assert answer.trajectory[-1][1] == answer.values


def test_every_step_of_the_trajectory_is_the_prediction_of_a_record_with_that_much(model, record):
    prediction = predict(model, record)
    for place in range(len(prediction.used)):
        part = predict(model, record.only(*prediction.used[: place + 1]))
        for task, answer in prediction.answers.items():
            assert answer.trajectory[place][1] == pytest.approx(part[task].values, abs=1e-6)
            assert answer.prior == pytest.approx(part[task].prior, abs=1e-6)


def test_the_answer_for_a_subset_is_the_prediction_of_a_record_with_no_more_than_that(model, record):
    prediction = predict(model, record)
    for task, answer in prediction.answers.items():
        assert len(answer.subsets) == 2 ** len(prediction.used)
        for seen, part in answer.subsets.items():
            alone = predict(model, record.only(*seen))[task]
            assert part.values == pytest.approx(alone.values, abs=1e-6)
            assert np.allclose(list(part.interval.values()), list(alone.interval.values()), atol=1e-6)


def test_every_order_starts_at_its_own_modality_and_ends_at_the_same_answer(model, record):
    prediction = predict(model, record)
    for answer in prediction.answers.values():
        for order in permutations(prediction.used):
            way = answer.along(order)
            assert [name for name, _ in way] == list(order)
            assert way[0][1] == answer.given(order[0])
            assert way[-1][1].values == answer.values


def test_contributions_add_up_to_the_whole_way_from_the_prior(model, record):
    for task, answer in predict(model, record).answers.items():
        leading = answer.leading
        whole = answer.values[leading] - answer.prior[leading]
        if task != "days":
            whole = log_odds(answer.values[leading]) - log_odds(answer.prior[leading])
        assert sum(answer.contributions.values()) == pytest.approx(float(whole), abs=1e-9)
        assert tuple(answer.contributions) == predict(model, record).used


def test_contributions_are_the_shapley_values_of_predictions_over_subsets(model):
    record = make_record(0, np.random.default_rng(3))
    answer = predict(model, record)["sick"]
    shares = dict.fromkeys(model.modalities, 0.0)
    for order in permutations(model.modalities):
        for place, name in enumerate(order):
            values = [
                predict(model, record.only(*order[:end]))["sick"].values["yes"] for end in (place, place + 1)
            ]
            shares[name] += float(log_odds(values[1]) - log_odds(values[0])) / 6
    assert answer.contributions == pytest.approx(shares, abs=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 4), st.integers(0, 10_000))
def test_shapley_values_are_the_mean_gain_over_all_orders(players, seed):
    names = tuple("abcd"[:players])
    draw = np.random.default_rng(seed)
    game = {frozenset(): draw.normal()}
    for size in range(1, players + 1):
        game.update({frozenset(order[:size]): draw.normal() for order in permutations(names)})
    orders = list(permutations(names))
    slow = dict.fromkeys(names, 0.0)
    for order in orders:
        for place, name in enumerate(order):
            slow[name] += (game[frozenset(order[: place + 1])] - game[frozenset(order[:place])]) / len(orders)
    assert shapley(game, names) == pytest.approx(slow, abs=1e-9)


def test_symmetric_players_get_equal_shares_and_a_silent_one_gets_nothing():
    game = {
        frozenset(s): 4.0 * (len({"a", "b"} & set(s)) == 2)
        for s in ("", "a", "b", "c", "ab", "ac", "bc", "abc")
    }
    assert shapley(game, ("a", "b", "c")) == pytest.approx({"a": 2.0, "b": 2.0, "c": 0.0})


def test_two_modalities_with_equal_parts_and_equal_content_contribute_equally():
    schema = Schema(
        {"left": Tabular((Number("l"),)), "right": Tabular((Number("r"),))}, {"sick": Binary("sick")}
    )

    class Cell(nn.Module):
        def forward(self, cells, known):
            return cells.expand(-1, 8) + known

    model = create_model(
        schema, fusion="concat", encoders={"left": Cell(), "right": Cell()}, dim=8, state_dim=8
    )
    width = model.fusion.mix[0].in_features // 2
    with torch.no_grad():
        model.fusion.mix[0].weight[:, width:] = model.fusion.mix[0].weight[:, :width]
    answer = predict(model, {"l": 0.7, "r": 0.7})["sick"]
    assert answer.contributions["left"] == pytest.approx(answer.contributions["right"], abs=1e-6)


def test_a_record_alone_gets_the_probabilities_that_it_gets_in_a_cohort(model):
    cohort = SmallCohort(make_records(20, seed=8))
    together = predict_proba(model, cohort, batch_size=7)
    for row, record in enumerate(cohort):
        for task, answer in predict(model, record).answers.items():
            np.testing.assert_allclose(list(answer.values.values()), together[task][row], atol=1e-6)


def test_the_keys_of_the_values_are_levels_labels_and_columns(model):
    answers = predict(model, make_record(0, np.random.default_rng(3))).answers
    assert {task: (a.kind, keys(a.values), a.unit) for task, a in answers.items()} == {
        "sick": ("binary", ["yes"], None),
        "stage": ("multiclass", ["0", "1", "2"], None),
        "signs": ("multilabel", ["cough", "fever"], None),
        "days": ("regression", ["days"], "d"),
    }
    assert sum(answers["stage"].values.values()) == pytest.approx(1)
    for answer in answers.values():
        assert list(answer.interval) == list(answer.values)
        assert all(low <= answer.values[k] <= high for k, (low, high) in answer.interval.items())


def test_nothing_recorded_gives_the_prior_and_says_so(model):
    for empty in (Record("x", {}), {}, {"age": None, "path": float("nan"), "history": ""}):
        prediction = predict(model, empty)
        assert prediction.used == ()
        assert prediction.missing == model.modalities
        assert any("Nothing was recorded" in note for note in prediction.notes)
        for answer in prediction.answers.values():
            assert answer.values == answer.prior
            assert answer.trajectory == ()
            assert answer.contributions == {}


def test_a_model_that_was_never_calibrated_gives_no_interval():
    assert predict(make_model(), make_record(0, np.random.default_rng(3)))["sick"].interval == {}


def test_a_table_row_is_read_like_the_record_it_stands_for(model):
    row = {
        "age": 71,
        "crp": "2.5",
        "sex": "m",
        "history": "fever",
        "record": 12.0,
        "patient": "p9",
        "sick": "yes",
    }
    prediction = predict(model, row)
    table = {"age": 71, "crp": 2.5, "sex": "m"}
    assert prediction.id == "12"
    assert prediction.answers == predict(model, Record("12", {"table": table, "note": "fever"})).answers


def test_empty_cells_are_named_and_unknown_levels_noted(model):
    with pytest.warns(UserWarning, match="never seen in training"):
        prediction = predict(model, Record("x", {"table": {"age": 50.0, "sex": "q"}}))
    assert prediction.missing_cells == {"table": ("crp", "sex")}
    assert "'q' was never seen in training" in prediction.notes[0]


def test_a_missing_file_is_an_error_or_an_absence_as_asked(model, tmp_path):
    record = Record("x", {"image": "gone.png", "note": "fever"}, folder=str(tmp_path))
    with pytest.raises(MissingFile, match=r'record "x", column "path".*gone\.png'):
        predict(model, record)
    with pytest.warns(UserWarning, match="counts as not recorded"):
        prediction = predict(model, record, missing_files="absent")
    assert prediction.used == ("note",)
    assert prediction.answers == predict(model, record.without("image")).answers


def test_asking_leaves_every_part_in_the_mode_it_was_in():
    model = make_model().train()
    model.encoders["image"].eval()  # a frozen encoder rests
    before = {name: part.training for name, part in model.named_modules()}
    predict(model, make_record(0, np.random.default_rng(3)))
    assert {name: part.training for name, part in model.named_modules()} == before
    assert set(before.values()) == {True, False}
    with pytest.raises(ValueError, match="brings the modality"):
        predict(model, Record("x", {"scan": 1}))
    assert {name: part.training for name, part in model.named_modules()} == before


def test_asking_twice_gives_the_same_also_in_training_mode():
    model, record = make_model().train(), make_record(0, np.random.default_rng(3))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    assert predict(model, record) == predict(model, record)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())


def test_a_prediction_is_plain_json(model, record):
    prediction = predict(model, record)
    data = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))
    assert data["answers"]["sick"]["values"] == prediction["sick"].values


def test_with_very_many_modalities_the_way_is_shown_and_the_shares_are_left_out():
    names = [f"m{i}" for i in range(MOST_EXACT + 1)]
    schema = Schema({name: Tabular((Number(name),)) for name in names}, {"sick": Binary("sick")})

    class Cell(nn.Module):
        def forward(self, cells, known):
            return cells.expand(-1, 4)

    model = create_model(schema, encoders={name: Cell() for name in names}, dim=4, state_dim=4)
    row = {name: float(i) for i, name in enumerate(names)}
    answer = predict(model, row)["sick"]
    assert answer.contributions == {}
    assert len(answer.trajectory) == MOST_EXACT + 1
    part = predict(model, {name: row[name] for name in names[:4]})["sick"]
    assert answer.trajectory[3][1] == pytest.approx(part.values, abs=1e-6)
    assert part.contributions


def test_a_model_without_a_schema_says_what_it_lacks():
    model = make_model()
    model.schema = None
    with pytest.raises(ValueError, match="schema=schema"):
        predict(model, {})


def test_only_the_named_policies_exist(model):
    with pytest.raises(TypeError):
        predict(model, {}, missing_file="absent")
    with pytest.raises(ValueError, match='Did you mean "absent"'):
        predict(model, {}, unreadable="absnt")


def test_a_modality_that_the_schema_lost_is_answered_like_an_absent_one():
    # The schema and the model go together: a record may bring less, never more.
    schema = replace(SCHEMA, tasks={"sick": SCHEMA.tasks["sick"]})
    model = make_model("multimodn", schema)
    with pytest.raises(ValueError, match='Did you mean "image"'):
        predict(model, Record("x", {"imgae": np.zeros((6, 6), np.float32)}))


def test_a_misspelt_column_of_a_row_is_said_and_not_silently_missing(model):
    tables = [m for m in SCHEMA.modalities.values() if isinstance(m, Tabular)]
    right = next(cell.name for cell in tables[0].cells if isinstance(cell, Number))
    said = predict(model, {right + "s": 1.0, "unrelated_thing": 2.0}).notes
    assert any(f'Did you mean "{right}"' in note for note in said)
    assert not any("unrelated_thing" in note for note in said)


def test_a_file_that_is_not_there_counts_as_missing_where_that_is_allowed(tmp_path):
    model = calibrated(make_model("multimodn"))
    whole = make_record(0, np.random.default_rng(3))
    record = replace(whole.with_input("image", "nowhere.png"), folder=str(tmp_path))
    assert predict(model, record, missing_files="absent").missing == ("image",)
    assert predict(model, record, missing_files="absent", until="table").missing == ("image",)
    with pytest.raises(MissingFile):
        predict(model, record)


def test_modalities_that_no_training_record_had_together_are_remarked_upon():
    model = make_model("multimodn")
    record = make_record(0, np.random.default_rng(3))
    assert not any("training" in note for note in predict(model, record).notes)  # nothing is known of it
    model.card = {"patterns": [[True, True, False], [False, False, True]], "training": {}}
    said = predict(model, record).notes
    assert any("No training record had image + table + note together" in note for note in said)
    assert any("guess" in note for note in predict(model, record.only("image")).notes)
    model.card["training"] = {"modality dropout": 0.3}  # which leaves every part of what was there
    assert not any("guess" in note for note in predict(model, record.only("image")).notes)
    assert any("guess" in note for note in predict(model, record.only("image", "note")).notes)
    assert not any("guess" in note for note in predict(model, record.only()).notes)


def test_a_model_calibrated_without_patterns_does_not_speak_of_them():
    model = make_model("multimodn")
    calibrate(model, SmallCohort(make_records(60, seed=5)), patterns=False)
    notes = predict(model, make_record(0, np.random.default_rng(3))).notes
    assert not any("validation records" in note for note in notes)
