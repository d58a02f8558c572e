"""Early exit and carried states: judged as far as the record goes, and further when more comes."""

import json

import numpy as np
import pytest
import torch
from small_model import calibrated, make_model, make_record

from mmmed.models.predict import predict, predict_partial
from mmmed.types.carried import CarriedState

SEQUENTIAL = ("multimodn", "cascade", "lstm")
PARALLEL = ("concat", "late", "gated_attention", "token_transformer", "moe")


@pytest.fixture(scope="module", params=SEQUENTIAL)
def model(request):
    return calibrated(make_model(request.param))


@pytest.fixture
def record():
    return make_record(0, np.random.default_rng(3))


def numbers(prediction):
    return {task: dict(answer.values) for task, answer in prediction.answers.items()}


def close(first, second):
    for task, values in numbers(first).items():
        for level, value in values.items():
            assert numbers(second)[task][level] == pytest.approx(value, abs=1e-5)


def test_until_stops_as_if_the_rest_were_not_there(model, record):
    for place, name in enumerate(model.modalities):
        stopped = predict(model, record, until=name)
        assert numbers(stopped) == numbers(predict(model, record.only(*model.modalities[: place + 1])))
        assert stopped.used == model.modalities[: place + 1]


def test_what_was_recorded_but_not_looked_at_is_not_called_missing(model, record):
    stopped = predict(model, record.without("note"), until="image")
    assert stopped.missing == ("note",)
    assert any("not looked at: table" in note for note in stopped.notes)


def test_what_comes_later_is_not_even_read(model, record):
    broken = record.with_input("note", "cough").with_input("table", {"age": "not a number"})
    with pytest.raises(ValueError, match="age"):
        predict(model, broken)
    assert predict(model, broken, until="image").used == ("image",)


def test_until_must_name_a_modality(model, record):
    with pytest.raises(ValueError, match='Did you mean "image"'):
        predict(model, record, until="imag")


def test_going_on_from_a_state_is_the_same_as_having_had_it_all(model, record):
    first = predict_partial(model, None, record.only("image"))
    second = predict_partial(model, first.state, record.only("table"))
    third = predict_partial(model, second.state, record.only("note"))
    close(first, predict(model, record.only("image")))
    close(second, predict(model, record.without("note")))
    close(third, predict(model, record))
    assert third.state.used == ("image", "table", "note")
    assert third.used == ("note",)
    assert third.missing == ()


def test_the_way_starts_at_the_answer_of_the_state(model, record):
    first = predict(model, record.only("image"))
    second = predict_partial(model, first.state, record.without("image"))
    for task, answer in second.answers.items():
        for level, value in answer.prior.items():
            assert value == pytest.approx(first[task].values[level], abs=1e-5)
        assert [name for name, _ in answer.trajectory] == ["table", "note"]
    assert any("earlier state that had seen image" in note for note in second.notes)


def test_nothing_new_changes_nothing(model, record):
    first = predict(model, record.only("image"))
    close(first, predict_partial(model, first.state, record.only()))


def test_a_modality_measured_once_more_moves_the_state_again(model, record):
    first = predict(model, record)
    again = predict_partial(model, first.state, record.only("table"))
    assert numbers(again) != numbers(first)
    assert again.state.used == first.state.used


def test_a_state_survives_json(model, record):
    state = predict(model, record.only("image")).state
    back = CarriedState.from_dict(json.loads(json.dumps(state.to_dict())))
    assert back == state
    assert numbers(predict_partial(model, back, record.only("table"))) == numbers(
        predict_partial(model, state, record.only("table"))
    )


@pytest.mark.parametrize(
    "broken", [{}, {"values": ["x"], "shape": [1], "used": [], "model": 0}, "state", None]
)
def test_what_is_no_state_is_refused(broken):
    with pytest.raises(ValueError, match="no carried state"):
        CarriedState.from_dict(broken)


def test_a_state_of_another_model_is_refused(record):
    first, other = make_model("multimodn"), make_model("multimodn", seed=1)
    state = predict(first, record.only("image")).state
    with pytest.raises(ValueError, match="another model"):
        predict_partial(other, state, record.only("table"))
    with torch.no_grad():
        next(first.fusion.parameters()).add_(0.1)
    with pytest.raises(ValueError, match="trained further"):
        predict_partial(first, state, record.only("table"))


@pytest.mark.parametrize("fusion", PARALLEL)
def test_a_parallel_fusion_says_that_it_has_no_state(fusion, record):
    model = make_model(fusion)
    assert predict(model, record).state is None
    for state in (None, predict(make_model("multimodn"), record).state):
        with pytest.raises(ValueError, match="multimodn, cascade, lstm"):
            predict_partial(model, state, record)


def test_a_state_is_refused_after_a_head_has_changed(record):
    model = make_model("multimodn")
    state = predict(model, record.only("image")).state
    with torch.no_grad():
        next(model.heads.parameters()).add_(0.1)
    with pytest.raises(ValueError, match="trained further"):
        predict_partial(model, state, record.only("table"))


def test_a_fusion_that_visits_every_modality_several_times_has_no_state_to_go_on_from(record):
    with pytest.raises(ValueError, match="multimodn, cascade, lstm"):
        predict_partial(make_model("perceiver"), None, record)
