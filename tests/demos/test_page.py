"""The page without a browser: it can be made for any schema, and its handlers do what they promise."""

import logging

import numpy as np
import pytest

import mmmed
from mmmed.types import (
    Binary,
    Category,
    Image,
    Multiclass,
    Multilabel,
    Number,
    Record,
    Regression,
    Schema,
    Series,
    Tabular,
    Text,
    Volume,
)

gr = pytest.importorskip("gradio", reason='gradio is missing: pip install "mmmed[demo]"')

from mmmed_demo import kept as kept_module  # noqa: E402
from mmmed_demo.answers import NOT_ANSWERED, PANELS, Visit  # noqa: E402
from mmmed_demo.app import build  # noqa: E402
from mmmed_demo.cast import Cast  # noqa: E402
from mmmed_demo.events import UNFORESEEN  # noqa: E402
from mmmed_demo.kept import Kept, as_json, kept_of  # noqa: E402
from mmmed_demo.preview import problem  # noqa: E402
from small_page import problem_of, update, values_of, wired  # noqa: E402

TABLE = Tabular(
    (Number("age", "years", low=0, high=120, mean=60, scale=10), Category("sex", ("female", "male")))
)
KINDS = {
    "picture": Image("picture", size=(16, 16)),
    "scan": Volume("scan", size=(8, 16, 16)),
    "table": TABLE,
    "note": Text("note", length=8, vocabulary=("cough", "fever")),
    "vitals": Series("vitals", (Number("pulse", "1/min", mean=80, scale=10),), length=8),
}
TASKS = {
    "sepsis": Binary("sepsis"),
    "stage": Multiclass("stage", ("I", "II", "III")),
    "signs": Multilabel(("cough", "fever")),
    "stay": Regression("stay", "days", mean=5, scale=2),
}
EVERYTHING = Record("p", {
    "picture": np.full((16, 16), 90, np.uint8), "scan": np.zeros((8, 16, 16), np.float32),
    "table": {"age": 70.0, "sex": "male"}, "note": "cough", "vitals": [{"time": 0, "pulse": 90.0}],
})  # fmt: skip


def any_cast():
    """A page of all kinds of inputs and all kinds of tasks, without a cohort."""
    model = mmmed.create_model(Schema(KINDS, TASKS), seed=0).eval().requires_grad_(False)
    return Cast(model, "a model of everything", examples={"complete": EVERYTHING})


def test_a_page_is_made_for_every_kind_of_input_and_task_without_a_cohort():
    made = any_cast()
    text = str(build(made).get_config_file())
    for words in ("with scan", "with vitals", "Where is", "There is no stress table", "age [years]"):
        assert words in text


@pytest.mark.parametrize("task", TASKS)
def test_every_panel_has_something_to_say_on_every_kind_of_task(task):
    events = wired(any_cast())
    visit = events.choose(Visit(), "complete", task)[events.parts.visit]
    assert set(visit.shown) >= set(PANELS)
    assert all(visit.shown[name] for name in PANELS)
    values = values_of(events, EVERYTHING)
    values[events.parts.form.inputs.index(events.parts.switches[1])] = False
    changes = update(events, visit, values, task)
    assert problem_of(events, changes) == ""
    assert "absent" in changes[events.parts.panels["path"]]


@pytest.mark.parametrize("kind", KINDS)
def test_a_page_is_made_for_a_single_input(kind):
    model = mmmed.create_model(Schema({kind: KINDS[kind]}, {"sepsis": TASKS["sepsis"]}), seed=0).eval()
    events = wired(Cast(model, "a model", examples={"complete": EVERYTHING.only(kind)}))
    assert events.parts.has_picture == (kind in ("picture", "scan"))
    changes = events.choose(Visit(), None)
    assert problem_of(events, changes) == ""


def test_what_is_filled_in_is_what_is_read(cast, events):
    form = events.parts.form
    for record in cast.examples.values():
        entered = form.read(form.filled(record), kept_of(record, cast.model.schema))
        assert entered.record.present == record.present == tuple(entered.on)
        assert not entered.problems
        for name in record.present:
            np.testing.assert_equal(_plain(entered.record.inputs[name]), _plain(record.inputs[name]))


def _plain(value):
    """Cells that are not recorded may be left out or None."""
    return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def test_a_file_is_read_once_and_only_the_last_one_is_held(monkeypatch):
    read = []
    monkeypatch.setattr(kept_module, "check_file", lambda path, kind: path)
    monkeypatch.setattr(kept_module, "_content", lambda path, modality: read.append(path) or path)
    kept = Kept()
    for path in ("one", "one", "two", "two", "one"):
        assert kept.opened("picture", path, KINDS["picture"]) == path
    assert read == ["one", "two", "one"]
    assert list(kept.files) == ["picture"]


def test_with_everything_off_the_answer_is_that_of_nothing_known(cast, events, visit):
    values = values_of(events, cast.examples["complete"])
    for switch in events.parts.switches:
        values[events.parts.form.inputs.index(switch)] = False
    changes = update(events, visit, values)
    assert visit.now.used == ()
    assert visit.on == ()
    assert "Nothing is known of this patient" in changes[events.parts.panels["path"]]


def test_what_arrives_is_switched_on_and_what_was_switched_off_stays_off(cast, events):
    nothing = cast.examples["nothing recorded"]
    visit = events.choose(Visit(), "nothing recorded")[events.parts.visit]
    values = values_of(events, nothing)
    values[-1] = "Cough for three weeks."
    changes = update(events, visit, values)
    assert changes[events.parts.switches[2]] is True
    assert visit.now.used == ("text",)
    values[-2], values[-1] = False, "Cough for four weeks."  # recorded before, so the switch is the visitor's
    changes = update(events, visit, values)
    assert events.parts.switches[2] not in changes
    assert visit.now.used == ()


def test_what_was_answered_is_not_asked_again(cast, events, visit):
    values = values_of(events, cast.examples["complete"])
    assert update(events, visit, values) == {events.parts.problem: ""}
    changes = update(events, visit, values, order=["text", "table", "image"])
    assert visit.order == ("text", "table", "image")
    assert len(changes) > len(PANELS)


def test_another_patient_is_shown_in_the_order_that_the_visitor_has_chosen(events):
    visit = events.choose(Visit(), "conflict", "diagnosis", ["text", "image", "table"])[events.parts.visit]
    assert visit.order == ("text", "image", "table")


def test_a_mistake_is_a_sentence_and_counts_as_not_recorded(cast, events, visit):
    values = values_of(events, cast.examples["complete"])
    age = next(k for k, one in enumerate(events.parts.form.inputs) if one.label == "age [years]")
    values[age] = 412
    changes = update(events, visit, values)
    assert 'role="alert"' in problem_of(events, changes)
    assert "412" in problem_of(events, changes)
    assert visit.now.missing_cells["table"] == ("age",)
    changes = update(events, visit, values_of(events, cast.examples["complete"]))
    assert problem_of(events, changes) == ""
    assert not visit.now.missing_cells.get("table")


def test_a_problem_is_words_and_never_markup():
    assert "<img" not in problem(["<img src=x onerror=alert(1)> is no picture."])
    assert problem([]) == ""


def test_where_the_model_cannot_answer_no_old_answer_is_left(cast, events, visit, monkeypatch):
    def refuses(*_):
        raise ValueError("This cannot be read. Choose another file.")

    monkeypatch.setattr("mmmed_demo.answers.predict", refuses)
    values = values_of(events, cast.examples["complete"])
    values[-1] = "Another note."
    changes = update(events, visit, values)
    assert "This cannot be read." in problem_of(events, changes)
    assert {changes[events.parts.panels[name]] for name in PANELS} == {NOT_ANSWERED}


def test_what_nobody_foresaw_is_logged_and_not_shown(events, visit, monkeypatch, caplog):
    def broken(*_):
        raise RuntimeError("/srv/secret/weights is broken")

    monkeypatch.setattr("mmmed_demo.events.look", broken)
    with caplog.at_level(logging.ERROR, logger="mmmed.demo"):
        changes = events.choose(visit, "conflict")
    assert UNFORESEEN in problem_of(events, changes)
    assert "secret" not in problem_of(events, changes)
    assert "secret" in caplog.text


def test_without_a_reporter_or_a_segmenter_the_page_says_how_to_get_one(events, visit):
    for changes, what in (
        (events.report(visit), "report"),
        (events.reply(visit, "Is there a nodule?"), "report"),
        (events.search(visit, "the nodule", 0.5, 0.5), "segment"),
    ):
        assert f"mmmed finetune synthetic --task {what}" in problem_of(events, changes)


def test_two_visitors_share_nothing(cast, events):
    one, other = (events.choose(Visit(), "complete")[events.parts.visit] for _ in range(2))
    was = other.key, other.now, dict(other.shown)
    values = values_of(events, cast.examples["complete"])
    values[-1] = "A secret."
    update(events, one, values)
    assert (other.key, other.now, other.shown) == was
    assert "secret" in as_json(one.record)
    assert "secret" not in as_json(other.record)
    assert one.kept is not other.kept
    assert one.shown is not other.shown


def test_the_page_for_programs_answers_without_what_is_left_out(events):
    told = events.predicted("complete", ["image"])
    assert told["missing"] == ["image"]
    with pytest.raises(gr.Error, match="There is no example 'nobody'"):
        events.predicted("nobody", [])
