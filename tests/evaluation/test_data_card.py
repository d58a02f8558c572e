"""Data cards: counted parts are counted, prose is left alone, and a difference is found and said."""

import json
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from mmmed.data.cohort import Cohort
from mmmed.data.folders import load_cohort
from mmmed.evaluation.data_card import data_card
from mmmed.evaluation.data_card_baselines import fixed_shape_dice
from mmmed.evaluation.data_card_compare import differences
from mmmed.evaluation.data_card_headings import UNKNOWN, UNWRITTEN, blank
from mmmed.evaluation.data_card_text import counted_in, find_text, header_of, refill, safe, sections_of

HOSTILE = 'crp <!-- end --> | <script>alert("x")</script> [a](javascript:b) `c`'


def rows(count=60, name="crp"):
    """Patients with two records each; the column is missing for every third record, and a site is told."""
    return [
        {
            "patient": f"p{i // 2}",
            "age": 40 + i % 30,
            "sex": "fm"[i % 2],
            name: None if i % 3 == 0 else float(i),
            "site": "AB"[i // 2 % 2],
            "sepsis": int(i // 2 % 2),
        }
        for i in range(count)
    ]


def cohort(name="crp", **more):
    columns = {"tabular": ["age", "sex", name], "target": "sepsis", "group": "patient"}
    return Cohort.from_records(rows(name=name), **columns, roles={"site": "confounder"}, **more)


@pytest.fixture(scope="module")
def card():
    return data_card(cohort(), draws=50)


def part(card, name):
    return counted_in(card.to_markdown())[name]


def test_sizes_count_records_and_patients(card):
    assert "| records | 60 |" in part(card, "sizes")
    assert "| patients | 30 |" in part(card, "sizes")


def test_columns_have_role_type_range_and_missing_share(card):
    line = next(line for line in part(card, "columns").splitlines() if line.startswith("| crp |"))
    assert [cell.strip() for cell in line.strip("|").split("|")] == [
        "crp",
        "input",
        "table",
        "number",
        "1 to 59, median 30",
        "20",
        "33.3 %",
    ]


def test_the_values_of_ids_and_patients_are_never_shown(card):
    assert "30 different" in part(card, "columns")
    assert "p17" not in card.to_markdown()


def test_the_pattern_matrix_says_which_columns_come_together(card):
    assert "| – | 20 | 33.3 % | 10 of 20 |" in part(card, "patterns")


def test_a_patient_in_two_parts_is_counted():
    leaky = cohort()
    leaky = leaky._with(parts=np.arange(60, dtype=np.int8) % 2)
    assert "Patients in more than one part: 30." in part(data_card(leaky, draws=20), "splits")


def test_a_confounder_that_is_the_answer_stands_in_the_card(card):
    assert re.search(r"\| sepsis \| site \| 60 \| 1\.000", part(card, "confounders"))


def test_labels_are_counted_per_part(card):
    counts = re.findall(
        r"\| sepsis \| 1 \| (\d+) \| (\d+) \| (\d+) \| (\d+) \| (\d+) \|", part(card, "labels")
    )
    every, *parts, patients = map(int, counts[0])
    assert (every, sum(parts), patients) == (30, 30, 15)


def test_a_cohort_without_a_written_card_says_so_and_has_every_heading(card):
    assert card.to_markdown().count(UNWRITTEN) > 20
    assert "known answer" not in card.to_markdown()
    assert card.sections == {}
    assert card.differences() == (f"{card.name} has no written card.",)


def test_prose_outside_the_markers_is_never_touched(card):
    text = card.to_markdown().replace(UNWRITTEN, "Ours: 17 <b>words</b>.", 1) + "\nlast words\n"
    again = data_card(cohort(), text, draws=50)
    assert again.to_markdown() == text
    assert again.sections["What it is"] == "Ours: 17 <b>words</b>."
    assert again.differences() == ()


def test_a_wrong_count_is_said_with_its_place(card):
    text = card.to_markdown().replace("| records | 60 |", "| records | 61 |")
    assert data_card(cohort(), text, draws=50).differences() == (
        "sizes, line records: the card says '61', the data say '60'.",
    )


def test_a_share_that_is_counted_has_no_tolerance(card):
    text = card.to_markdown().replace("| 20 | 33.3 % |", "| 20 | 33.31 % |", 1)
    assert len(data_card(cohort(), text, draws=50).differences()) == 1


def test_the_installed_cards_come_before_those_of_the_checkout(tmp_path, monkeypatch):
    folder = tmp_path / "mmmed_data_cards"
    folder.mkdir()
    (folder / "synthetic.md").write_text("installed", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mmmed_data_cards", raising=False)
    found = find_text("synthetic"), find_text("breast-us")
    sys.modules.pop("mmmed_data_cards", None)  # else the next test would find it
    assert found[0] == "installed"
    assert "# breast-us" in found[1]


def test_a_part_without_a_place_and_a_part_that_nothing_counts_are_said(card):
    text = card.to_markdown().replace("<!-- counted: sizes -->", "<!-- counted: weights -->")
    said = data_card(cohort(), text, draws=50).differences()
    assert [line.split(":")[0] for line in said] == ["weights", "sizes"]


def test_measured_numbers_have_a_tolerance_and_counts_have_none():
    old, new = "| age | 60 | 0.712 [0.600, 0.800] |", "| age | 60 | 0.700 [0.610, 0.790] |"
    assert differences("baselines", old, new, 0.03) == []
    assert differences("baselines", old, new, 0.0)
    assert differences("baselines", old, new.replace("60 |", "61 |"), 0.03)
    assert differences("baselines", old, new.replace("0.700", "0.800"), 0.03)


def test_differences_are_said_in_the_order_of_the_card(card):
    lines = [f"| row {k} | {k} |" for k in range(12)]
    said = differences("labels", "\n".join(lines[:6]), "\n".join(lines[6:]), 0.0)
    assert [re.search(r"row (\d+)", line)[1] for line in said] == [str(k) for k in range(12)]
    names = ["weights", "heights", "colours", "shoes", "hats", "gloves"]
    extra = "".join(f"<!-- counted: {name} -->\n<!-- end -->\n" for name in names)
    said = data_card(cohort(), f"{card.to_markdown()}\n{extra}", draws=50).differences()
    assert [line.split(":")[0] for line in said] == names


def test_a_question_of_which_no_answer_is_known_is_counted_as_none():
    told = [{"patient": f"p{i}", "age": 40 + i, "stay": 3.5 + i if i < 40 else None} for i in range(60)]
    whole = Cohort.from_records(told, tabular=["age"], target="stay", group="patient")
    assert "| stay | 3.5 to 42.5, median 23 | 40 |" in part(data_card(whole, draws=20), "labels")
    assert "| stay | none | 0 |" in part(data_card(whole[40:], draws=20), "labels")


def test_lines_that_came_or_went_are_said():
    said = differences("labels", "| a | 1 |\n| b | 2 |", "| a | 1 |\n| c | 3 |", 0.0)
    assert len(said) == 2
    assert "the card says '| b | 2 |', the data do not" in said[0]


def test_hostile_names_forge_neither_a_marker_nor_html_nor_a_link():
    made = data_card(cohort(HOSTILE), draws=20)
    text = made.to_markdown()
    assert text.count("<!-- end -->") == len(made.counted)
    assert "<script" not in text
    assert not re.search(r"(?<!\\)\]\(javascript", text)
    assert "<script" not in made._repr_html_()
    assert "<!--" not in made._repr_html_()
    assert data_card(cohort(HOSTILE), text, draws=20).differences() == ()


def test_a_notebook_shows_the_card_without_its_header():
    text = "---\npretty_name: x\n---\n\n" + blank("Card", ["sizes"])
    made = data_card(cohort(), text, draws=20)
    assert made._repr_markdown_().lstrip().startswith("# Card")
    assert made.header == {"pretty_name": "x"}


def test_a_known_cohort_gets_its_card_by_name_and_a_namesake_does_not():
    assert "known answer" in find_text("synthetic")
    assert find_text("../README") is None
    assert find_text("nobody") is None
    other = cohort()
    other = other._with(source=replace(other.source, name="breast-us"))
    assert data_card(other).text == ""


def test_patients_of_ones_own_do_not_get_the_card_of_those_who_do_not_exist():
    made = load_cohort("synthetic", patients=60)
    assert data_card(made).text
    mine = made._with(source=replace(made.source, truth=None))
    assert mine.name == "synthetic"
    assert data_card(mine).text == ""


def test_what_nobody_knows_is_no_section():
    text = f"## A\n\n### Raw data\n\n{UNKNOWN}; ask.\n\n### When\n\nIn 2020.\n\n## B\n\nloose\n"
    assert sections_of(text) == {"When": "In 2020."}


def test_a_header_that_is_no_yaml_is_a_sentence():
    with pytest.raises(ValueError, match="header of the card is no YAML"):
        header_of("---\na: [1\n---\n")
    with pytest.raises(ValueError, match="mapping"):
        header_of("---\n- a\n---\n")


def test_refill_leaves_unknown_parts_and_escapes_nothing_twice():
    text = "<!-- counted: sizes -->\nold\n<!-- end -->\n<!-- counted: other -->\nkept\n<!-- end -->"
    assert counted_in(refill(text, {"sizes": r"new \1"})) == {"sizes": r"new \1", "other": "kept"}
    assert safe("a\n<b> & [c]") == r"a &lt;b&gt; &amp; \[c\]"


def test_an_empty_cohort_has_no_card():
    with pytest.raises(ValueError, match="number of records"):
        data_card(cohort()[:0])


def test_to_dict_holds_plain_rows(card):
    told = json.loads(json.dumps(card.to_dict()))
    assert told["counted"]["sizes"][0]["rows"][0] == {"what": "records", "count": "60"}


def test_a_fixed_shape_is_perfect_where_all_masks_are_one_and_poor_where_they_wander():
    same = np.zeros((20, 64, 64))
    same[:, 10:30, 10:30] = 1
    wander = np.zeros((20, 64, 64))
    for k in range(20):
        wander[k, 3 * k : 3 * k + 3, 3 * k : 3 * k + 3] = 1
    groups = np.arange(20).astype(str)
    assert fixed_shape_dice(same, groups) == 1.0
    assert fixed_shape_dice(wander, groups) < 0.1


def test_files_outside_the_folder_are_not_looked_at(tmp_path):
    from PIL import Image

    from mmmed.evaluation.data_card_files import duplicates, files

    (tmp_path / "in").mkdir()
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(generator.integers(0, 255, (32, 32), dtype=np.uint8)).save(
            tmp_path / "in" / f"{name}.png"
        )
    lines = ["patient,path,sepsis"]
    lines += [f"p{i},{'ab'[i % 2]}.png,{i % 2}" for i in range(40)]
    (tmp_path / "in" / "my.csv").write_text("\n".join(lines))
    made = Cohort.from_csv(tmp_path / "in" / "my.csv", image="path", target="sepsis", group="patient")
    # 20 patients share each of two files: 2 * 190 pairs
    assert "Pairs of identical files: within a patient 0, between patients 380." in duplicates(made)
    assert any("SHA-256 of my.csv" in piece for piece in files(made) if isinstance(piece, str))
    assert str(tmp_path) not in data_card(made, draws=20).to_markdown()
