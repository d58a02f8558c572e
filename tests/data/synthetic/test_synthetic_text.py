"""Notes and reports: read back without error, telling exactly what they should and nothing else."""

import re
from itertools import pairwise

import numpy as np
import pytest

from mmmed.data.synthetic import Statement, generate, parse
from mmmed.data.synthetic.scene import DENSITIES, MARGINS, SIZES
from mmmed.data.synthetic.text import history_level
from mmmed.data.synthetic.words import DENSITIES as DENSITY_WORDS
from mmmed.data.synthetic.words import MARGINS as MARGIN_WORDS


@pytest.fixture(scope="module")
def cohort():
    return generate(2000, seed=9)


def _level(cohort, name):
    return cohort.table[f"factor_{name}"]


@pytest.mark.parametrize("column", ["note", "findings", "impression"])
def test_two_thousand_texts_parse_back_into_their_label_sets(cohort, column):
    for text, labels in zip(cohort.table[column], cohort.labels[column], strict=True):
        assert parse(text) == labels, text


def test_history_and_size_are_read_from_every_note_without_error(cohort):
    for text, history, size in zip(
        cohort.table["note"], _level(cohort, "t"), _level(cohort, "r"), strict=True
    ):
        told = parse(text)
        nodule = next(statement for statement in told if statement.finding == "nodule")
        assert history_level(told) == history
        assert SIZES.index(nodule.size) - 1 == size
        assert nodule.status == "present"  # doubt never touches the size


def test_a_note_tells_nothing_about_margin_and_density(cohort):
    telling = [word for words in (MARGIN_WORDS, DENSITY_WORDS) for ways in words.values() for word in ways]
    pattern = re.compile(r"(?<![\w-])(" + "|".join(map(re.escape, [*telling, "suspicious"])) + r")(?![\w-])")
    assert not [text for text in cohort.table["note"] if pattern.search(text.lower())]


def test_a_report_tells_every_lesion_with_margin_and_density_as_drawn(cohort):
    for text, scene in zip(cohort.table["findings"], cohort.scenes, strict=True):
        told = {(s.side, s.zone, s.size, s.margin, s.density) for s in parse(text) if s.finding == "nodule"}
        drawn = {(x.side, x.zone, x.size, x.margin, x.density) for x in scene.lesions}
        assert told == drawn
    main = [
        next(s for s in labels if s.finding == "nodule" and s.size != "tiny")
        for labels in cohort.labels["findings"]
    ]
    assert [MARGINS.index(s.margin) - 1 for s in main] == _level(cohort, "a").tolist()
    assert [DENSITIES.index(s.density) - 1 for s in main] == _level(cohort, "d").tolist()


def test_the_impression_judges_the_margin_and_not_the_diagnosis(cohort):
    status = [
        next(s.status for s in labels if s.finding == "suspicion") for labels in cohort.labels["impression"]
    ]
    assert [("absent", "uncertain", "present").index(word) - 1 for word in status] == _level(
        cohort, "a"
    ).tolist()


def test_measurements_and_words_name_the_same_sizes(cohort):
    seen = {}
    for labels in cohort.labels["findings"]:
        for statement in labels:
            if statement.millimetres:
                seen.setdefault(statement.size, set()).add(statement.millimetres)
    order = [seen[size] for size in ("tiny", *SIZES)]
    assert all(max(small) + 3 < min(large) for small, large in pairwise(order))


def test_negations_hedges_and_measurements_all_occur(cohort):
    statements = [statement for labels in cohort.labels["note"] for statement in labels]
    effusions = [s.status for s in statements if s.finding == "effusion"]
    assert np.mean([status == "uncertain" for status in effusions]) == pytest.approx(0.2, abs=0.03)
    assert {"present", "absent", "uncertain"} == set(effusions)
    assert {"absent"} == {s.status for s in statements if s.finding == "pneumothorax"}
    measured = [s.millimetres > 0 for s in statements if s.finding == "nodule"]
    assert np.mean(measured) == pytest.approx(0.5, abs=0.04)


def test_each_site_has_a_style_of_its_own_and_the_style_tells_nothing_else(cohort):
    site = np.array(cohort.table["site"])
    starts = {"A": "History:", "B": "Hx"}
    for note, place in zip(cohort.table["note"], site, strict=True):
        assert note.startswith(starts[place]) if place in starts else "Clinical history:" in note
    for place in "ABC":
        assert cohort.rows.label[site == place].mean() == pytest.approx(0.389, abs=0.06)


def test_a_note_in_short_form_is_read_by_hand():
    assert parse("Hx no complaints. Opacity LLZ 36 mm. Query eff right. No ptx.") == (
        Statement("effusion", "uncertain", side="right"),
        Statement("nodule", "present", "left", "lower", "large", 36),
        Statement("pneumothorax", "absent"),
        Statement("symptoms", "absent"),
    )
    assert parse("A half-solid wavy lesion in the right upper zone.") == (
        Statement("nodule", "present", "right", "upper", "", 0, "lobulated", "part-solid"),
    )


def test_a_clause_outside_the_grammar_is_named():
    with pytest.raises(ValueError, match="No finding of the grammar in the clause 'Weather is fine'"):
        parse("No effusion. Weather is fine.")
