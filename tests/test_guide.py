"""What the Markdown files promise: one screen, links that lead somewhere, figures that have a source."""

import re
from functools import cache
from pathlib import Path

import pytest

from mmmed.types.prediction import NOTICE

ROOT = Path(__file__).parents[1]
FOLDERS = ("data_cards", "demos", "mmmed", "notebooks", "tests")
FILES = sorted(ROOT.glob("*.md")) + sorted(file for name in FOLDERS for file in (ROOT / name).rglob("*.md"))
LECTURES = sorted((ROOT / "notebooks").glob("[0-9]*.py"))
SCRIPTS = sorted((ROOT / "tests" / "benchmarks").glob("*_*.py"))
RESULTS = ROOT / "tests" / "benchmarks" / "README.md"


@cache
def prose(file: Path) -> str:
    """A Markdown file without its blocks of code."""
    return re.sub(r"^```.*?^```", "", file.read_text(encoding="utf-8"), flags=re.S | re.M)


def anchors(file: Path) -> set[str]:
    """The names that GitHub gives to the headings."""
    heads = re.findall(r"^#+ (.+)$", prose(file), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def dead_links(file: Path) -> list[str]:
    """Relative links of a Markdown file that lead to no file, or to no heading of one."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(file)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, place = link.partition("#")
        target = (file.parent / path).resolve() if path else file
        if not target.exists() or (place and place not in anchors(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_every_link_and_picture_is_there_and_pictures_say_what_they_show(file):
    assert not dead_links(file)
    assert all(len(said) > 30 for said in re.findall(r"!\[([^\]]*)\]\(", prose(file)))


def test_a_dead_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A head, 5 %\n[a](page.md#a-head-5-) [b](#no) ![c](no.png)\n```\n[d](no)\n```\n")
    assert dead_links(page) == ["#no", "no.png"]


def test_the_readme_is_one_screen_and_gives_the_notice_once():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert prose(ROOT / "README.md").count(NOTICE) == 1


@pytest.mark.parametrize("lecture", LECTURES, ids=lambda file: file.stem)
def test_a_lecture_is_listed_with_the_time_that_it_says_it_takes(lecture):
    assert f"(notebooks/{lecture.stem}.ipynb)" in prose(ROOT / "README.md")
    row = next(
        x for x in prose(ROOT / "notebooks" / "README.md").splitlines() if f"({lecture.stem}.ipynb) |" in x
    )
    question, takes = (cell.strip() for cell in row.split("|")[3:5])
    source = re.sub(r"\s*\n# ?", " ", lecture.read_text(encoding="utf-8"))
    assert question.lower() in source.lower()
    assert takes in source


def test_every_score_of_the_readme_stands_with_the_command_that_measured_it():
    scores = set(re.findall(r"(?<![\w.])\.\d{3}\b", prose(ROOT / "README.md")))
    assert len(scores) > 10
    assert scores <= set(re.findall(r"(?<![\w.])\.\d{3}\b", prose(RESULTS)))


def test_every_benchmark_has_its_place_among_the_results_and_every_script_named_is_there():
    said = set(re.findall(r"\b(?:bench|figure)_\w+\.py", " ".join(prose(file) for file in FILES)))
    assert said == {script.name for script in SCRIPTS}
