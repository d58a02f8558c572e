"""Nothing on the page speaks of another patient, or of other inputs, without saying so."""

import pytest

from mmmed.types import Report, Sentence

gr = pytest.importorskip("gradio", reason='gradio is missing: pip install "mmmed[demo]"')

from mmmed_demo.events import Events  # noqa: E402
from mmmed_demo.patient import Patient  # noqa: E402
from mmmed_demo.results import Result, basis_of  # noqa: E402
from mmmed_demo.summary import page_of, record_of  # noqa: E402
from mmmed_demo.writing import elsewhere  # noqa: E402
from small_page import problem_of, update, values_of  # noqa: E402

REPORT = Report("p", (Sentence("A nodule on the left."),), used=("image", "table", "text"))


@pytest.fixture
def values(cast, events):
    return values_of(events, cast.examples["complete"])


def place(events, component):
    return events.parts.form.inputs.index(component)


def result(cast, visit, kind, content=None, html="old"):
    return Result(visit.token, kind, basis_of(cast, visit, kind), content, html)


def test_a_slow_answer_is_not_shown_to_the_next_patient(cast, events, visit):
    asked = result(cast, visit, "heat", html="the map of the first")
    assert events.landed("heat", visit, asked)[events.parts.results["heat"]] == "the map of the first"
    following = events.choose(visit, "conflict")[events.parts.visit]
    assert following is not visit
    assert events.landed("heat", following, asked) == {events.parts.arrived["heat"]: None}
    assert not following.results


def test_what_was_asked_for_goes_when_its_inputs_change(cast, events, visit, values):
    for kind in ("heat", "masks", "reply"):
        events.landed(kind, visit, result(cast, visit, kind, []))
    values[-1] = "Another note."
    changes, results = update(events, visit, values), events.parts.results
    assert "about other inputs" in changes[results["heat"]]
    assert "about other inputs" in changes[results["reply"]]
    assert results["masks"] not in changes  # the picture is the same
    assert set(visit.results) == {"masks"}
    values[place(events, events.parts.switches[0])] = False
    assert "about other inputs" in update(events, visit, values)[results["masks"]]


def test_an_answer_that_comes_after_a_switch_says_that_it_is_late(cast, events, visit, values):
    late = result(cast, visit, "heat", html="the map")
    values[-1] = "Another note."
    update(events, visit, values)
    assert "about other inputs" in events.landed("heat", visit, late)[events.parts.results["heat"]]


def test_a_report_about_other_values_is_marked_and_left_out_of_what_is_taken_away(
    cast, events, visit, values
):
    events.landed("report", visit, result(cast, visit, "report", (REPORT, None)))
    assert record_of(cast, visit, "now")["report"] is not None
    assert "A nodule on the left." in page_of(cast, visit, "now")
    values[-1] = "Another note."
    changes = update(events, visit, values)
    assert "other values of the same inputs" in changes[events.parts.stale]
    assert record_of(cast, visit, "now")["report"] is None
    assert "A nodule on the left." not in page_of(cast, visit, "now")
    values[place(events, events.parts.switches[0])] = False
    assert "was written with: image, table, text" in update(events, visit, values)[events.parts.stale]


def test_the_sentence_that_was_chosen_is_shown_pressed(cast, events, visit):
    events.landed("report", visit, result(cast, visit, "report", (REPORT, None)))
    changes = events.landed("where", visit, result(cast, visit, "where", 0, "the mask"))
    assert changes[events.parts.results["where"]] == "the mask"
    assert 'aria-pressed="true"' in changes[events.parts.results["report"]]


def test_a_sentence_that_rests_on_the_table_is_not_looked_for_in_the_picture(cast):
    shown, told = (
        Sentence("LDH raised.", -0.1, {"image": a, "table": b}, 1.0) for a, b in ((1.4, 0.2), (0, 2))
    )
    assert elsewhere(cast, shown) == ""
    assert "rests on the table" in elsewhere(cast, told)
    assert elsewhere(cast, Sentence("LDH raised.")) == ""  # never measured


def test_a_file_that_cannot_be_read_leaves_no_old_answer_on_the_page(events, visit, values, tmp_path):
    bad = tmp_path / "scan.png"
    bad.write_bytes(b"no picture")
    values[place(events, events.parts.form.cards[0].file)] = str(bad)
    changes = update(events, visit, values)
    assert "scan.png" in problem_of(events, changes)
    assert "scan.png" in changes[events.parts.form.states[0]]
    assert visit.now.used == ("table", "text")
    values[place(events, events.parts.switches[1])] = False  # the page goes on
    changes = update(events, visit, values)
    assert visit.now.used == ("text",)
    assert "scan.png" in problem_of(events, changes)


def test_without_an_answer_nothing_is_taken_away(cast, events, visit, values, monkeypatch):
    def refused(*_):
        raise ValueError("The note is too long.")

    monkeypatch.setattr("mmmed_demo.answers.predict", refused)
    values[-1] = "Another note."
    update(events, visit, values)
    assert "nothing to take away" in problem_of(events, events.save_json(visit))


def test_what_nobody_foresaw_leaves_no_old_answer_on_the_page_either(
    cast, events, visit, values, monkeypatch
):
    def broken(*_):
        raise RuntimeError("the weights are gone")

    monkeypatch.setattr("mmmed_demo.answers.predict", broken)
    values[-1] = "Another note."
    changes = update(events, visit, values)
    assert "Something went wrong here" in problem_of(events, changes)
    assert all("Not answered" in changes[panel] for panel in events.parts.panels.values())
    assert "nothing to take away" in problem_of(events, events.save_json(visit))


def test_the_change_that_is_told_is_that_of_the_last_switch(events, visit, values):
    values[place(events, events.parts.switches[0])] = False
    update(events, visit, values)
    was = visit.before
    assert was.used == ("image", "table", "text")
    update(events, visit, values, order=["text", "table", "image"])  # no switch
    assert visit.before is was
    values[-1] = "Another note."  # another patient, in a way
    update(events, visit, values)
    assert visit.before is None


def test_what_is_being_trained_is_told_from_the_start_and_said_once(cast):
    class Companions:
        busy = True

        def status(self):
            return "Learning to write: epoch 1 of 25." if self.busy else ""

    events = Events(cast, Companions())
    with gr.Blocks() as page:
        events.wire(Patient(cast, ""), page)
    waiting, tick = events.parts.waiting, events.parts.tick
    changes = events.ticked("")
    assert "Learning to write" in changes[waiting]
    assert changes[tick].active is True
    assert waiting not in events.ticked(changes[waiting])
    Companions.busy = False
    changes = events.ticked(changes[waiting])
    assert changes[waiting] == ""
    assert changes[tick].active is False
