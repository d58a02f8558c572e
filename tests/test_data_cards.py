"""Every card of data_cards/ agrees with its data, holds every heading, and says what must not be done."""

import hashlib
import re
import warnings
from pathlib import Path

import pytest

from mmmed.data.folders import load_cohort
from mmmed.evaluation.data_card import data_card
from mmmed.evaluation.data_card_headings import BLOCKS, HEADINGS, UNWRITTEN
from mmmed.evaluation.data_card_text import counted_in, header_of, sections_of

FOLDER = Path(__file__).parent.parent / "data_cards"
REAL = ("breast-us", "hannover-cxr", "covid-cxr", "lgg-mri", "openi-reports")
NAMES = ("synthetic", *REAL)
SPDX = {
    "synthetic": ("Apache-2.0", "allowed"),
    "breast-us": ("CC-BY-4.0", "allowed"),
    "hannover-cxr": ("CC-BY-3.0", "allowed"),
    "covid-cxr": ("CC-BY-NC-SA-4.0", "forbidden"),
    "lgg-mri": ("CC-BY-NC-SA-4.0", "forbidden"),
    "openi-reports": ("CC-BY-NC-ND-4.0", "forbidden"),
}
each_card = pytest.mark.parametrize("name", NAMES)
each_real = pytest.mark.parametrize("name", REAL)


def text_of(name):
    return (FOLDER / f"{name}.md").read_text(encoding="utf-8")


def recount(name, **where):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return data_card(load_cohort(name, **where), text_of(name)).differences()


def test_the_card_of_the_synthetic_cohort_agrees_with_a_recount():
    assert recount("synthetic") == ()


@pytest.mark.real_data
@each_real
def test_the_card_of_a_real_cohort_agrees_with_a_recount(name, real_cohorts):
    assert recount(name, root=real_cohorts) == ()


@pytest.mark.real_data
@pytest.mark.parametrize("name", REAL[:-1])  # the archive of reports brings no ATTRIBUTION.md
def test_a_card_quotes_the_attribution_of_its_folder(name, real_cohorts):
    wanted = (real_cohorts / name / "ATTRIBUTION.md").read_text(encoding="utf-8")
    quoted = re.sub(r"^> ?", "", sections_of(text_of(name))["Attribution"], flags=re.MULTILINE)
    assert quoted.split() == wanted.split()


@pytest.mark.real_data
def test_the_checksum_of_the_reports_is_that_of_the_archive(real_cohorts):
    archive = real_cohorts / "openi-reports" / "NLMCXR_reports.tgz"
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert header_of(text_of("openi-reports"))["mmmed"]["sources"][0]["sha256"] == digest


@each_card
def test_a_card_holds_every_heading_in_order_and_each_is_written(name):
    text = text_of(name)
    blocks = re.findall(r"^## (.+)$", text, re.MULTILINE)
    headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert blocks == list(BLOCKS)
    assert headings == [h for h in HEADINGS if name == "synthetic" or h != "The known answer"]
    assert UNWRITTEN not in text


@each_card
def test_a_card_has_a_place_for_every_part_that_can_be_counted(name):
    wanted = {part for heading in HEADINGS.values() for part in heading.parts}
    assert counted_in(text_of(name)).keys() == wanted - (set() if name == "synthetic" else {"known answer"})


@each_card
def test_the_header_names_the_licence_and_whether_it_forbids_commercial_use(name):
    header = header_of(text_of(name))
    own = header["mmmed"]
    assert (own["spdx"], own["commercial_use"]) == SPDX[name]
    assert header["license"] == own["spdx"].lower()
    opening = text_of(name).split("\n## ")[0].split("\n# ")[1]
    assert own["spdx"] in opening
    assert ("forbids commercial" in opening or "is forbidden" in opening) == (SPDX[name][1] == "forbidden")


@each_card
def test_the_size_class_of_the_header_fits_the_counted_records(name):
    records = int(re.search(r"\| records \| (\d+) \|", text_of(name))[1])
    wanted = "n<1K" if records < 1000 else "1K<n<10K"
    assert header_of(text_of(name))["size_categories"] == [wanted]


@each_card
def test_a_card_allows_no_diagnostic_claim_and_names_no_local_path(name):
    text = text_of(name)
    assert "No diagnostic claim" in text
    assert "Not a medical device" in text
    assert not re.search(r"(?<![\w:/.])/(?:home|root|tmp|work|mnt|Users)/|[A-Z]:\\", text)
    assert "What it must not be used for" in sections_of(text)
