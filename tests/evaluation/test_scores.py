"""A table is the same thing in a terminal, in HTML, in Markdown and on disk."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from mmmed.evaluation.bootstrap import Estimate
from mmmed.evaluation.scores import Table, table_of, write_whole

ROWS = (
    {"task": "sepsis", "n": 40, "auroc": Estimate(0.8125, 0.7, 0.9, 40, 20), "note": ""},
    {"task": "a|b <i>", "n": np.int64(7), "auroc": Estimate(float("nan"), float("nan"), float("nan"), 7, 7)},
)


def test_columns_are_aligned_and_undefined_is_a_dash():
    lines = str(Table(ROWS, "Scores", ("A note.",))).split("\n")
    assert lines[0] == "Scores"
    assert lines[-1] == "A note."
    assert "0.812 [0.700, 0.900]" in lines[3]
    assert lines[1].index("n") == lines[2].index("--", 8) + 1  # numbers stand to the right of their column
    end = lines[3].index("]")
    assert lines[4][end] == "-"  # and so does the dash


def test_html_escapes_every_text_that_comes_from_data():
    html = Table(ROWS, "<b>title</b>", ("<script>",))._repr_html_()
    for text in ("<i>", "<script>", "<b>title</b>"):
        assert text not in html.replace("<div style", "").replace("<b>&lt;", "")
    assert "a|b &lt;i&gt;" in html
    assert "&lt;script&gt;" in html


def test_markdown_escapes_the_bar():
    lines = Table(ROWS).to_markdown().split("\n")
    assert lines[1] == "| --- | ---: | ---: | --- |"
    assert "a\\|b" in lines[3]
    assert all(line.replace("\\|", "").count("|") == 5 for line in lines)


def test_saved_files_hold_estimates_as_three_columns_and_nan_as_nothing(tmp_path):
    csv_path, json_path = Table(ROWS, "Scores").save(tmp_path / "deep" / "scores")
    with open(csv_path, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert (rows[0]["auroc"], rows[0]["auroc_low"], rows[0]["auroc_high"]) == ("0.8125", "0.7", "0.9")
    assert rows[1]["auroc"] == ""
    content = json.loads(json_path.read_text(), parse_constant=pytest.fail)
    assert content["rows"][1]["auroc"] is None
    assert content["rows"][1]["n"] == 7
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["scores.csv", "scores.json"]


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    write_whole(tmp_path / "a.txt", b"old")

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_whole(tmp_path / "a.txt", b"new")
    assert (tmp_path / "a.txt").read_bytes() == b"old"


def test_a_name_with_a_dot_keeps_it(tmp_path):
    assert Table(ROWS).save(tmp_path / "v0.1")[0].name == "v0.1.csv"
    assert Table(ROWS).save(tmp_path / "scores.csv")[1].name == "scores.json"


def test_rows_are_found_by_their_cells_and_unknown_columns_are_named():
    table = Table(ROWS)
    assert [row["n"] for row in table.where(task="sepsis")] == [40]
    assert table.column("note") == ["", None]
    with pytest.raises(ValueError, match='Did you mean "auroc"'):
        table.column("auroq")


def test_the_frame_has_plain_columns():
    frame = Table(ROWS).to_frame()
    assert list(frame.columns) == ["task", "n", "auroc", "auroc_low", "auroc_high", "note"]
    assert np.isnan(frame.auroc[1])


def test_columns_without_any_cell_are_left_out():
    assert table_of([{"a": 1, "b": None}, {"a": 2, "b": ""}]).columns == ("a",)


def test_a_table_without_a_figure_says_so():
    with pytest.raises(ValueError, match="no figure"):
        Table(ROWS, "Scores").plot()
    assert Table(ROWS, draw=len).plot() == 2


def test_a_wide_table_keeps_the_first_interval_and_says_where_the_others_are():
    estimate = Estimate(0.8, 0.7, 0.9, 40, 20)
    wide = Table(({name: estimate for name in ("auroc", "auprc", "brier", "ece", "f1", "recall", "loss")},))
    lines = str(wide).split("\n")
    assert lines[2].split() == ["0.800", "[0.700,", "0.900]", *["0.800"] * 6]
    assert "to_frame()" in lines[-1]
    assert wide.to_markdown().count("[0.700, 0.900]") == 7
    assert wide._repr_html_().count("[0.700, 0.900]") == 7
