"""Open-I reports: read in memory, hostile archives refused, and the published counts on the real file."""

import io
import tarfile

import numpy as np
import pytest

from mmmed.checks import UnreadableFile
from mmmed.data import openi
from mmmed.data.folders import load_cohort
from mmmed.data.openi import ARCHIVE, open_reports, read_report

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{number}"/><MedlineCitation><Article><Abstract>
<AbstractText Label="COMPARISON">None.</AbstractText>
<AbstractText Label="INDICATION">{indication}</AbstractText>
<AbstractText Label="FINDINGS"/>
<AbstractText Label="IMPRESSION">No &lt;acute&gt;
   disease. {number}</AbstractText></Abstract></Article></MedlineCitation>
<MeSH>{mesh}</MeSH><parentImage id="a"/><parentImage id="b"/></eCitation>"""
NORMAL, ILL = (
    "<major>normal</major>",
    "<major>Nodule/lung</major><major>normal</major><automatic>x</automatic>",
)


def report(number=1, indication="Cough", mesh=NORMAL):
    return REPORT.format(number=number, indication=indication, mesh=mesh).encode()


@pytest.fixture
def archive(tmp_path):
    """Writes members into an archive of that name and gives its path."""

    def write(members, name=ARCHIVE):
        with tarfile.open(tmp_path / name, "w:gz") as tar:
            for member, content in members:
                info = tarfile.TarInfo(member) if isinstance(member, str) else member
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return tmp_path / name

    return write


def many(count=12):
    return [
        (f"r/{n}.xml", report(n, "" if n % 3 == 0 else f"Cough {n}", NORMAL if n % 2 else ILL))
        for n in range(count, 0, -1)
    ]


def test_a_report_by_hand():
    assert read_report(report()) == {
        "id": "CXR1",
        "indication": "Cough",
        "comparison": "None.",
        "findings": None,
        "impression": "No <acute> disease. 1",
        "mesh": "normal",
        "normal": "1",
        "images": "2",
    }
    assert read_report(report(mesh=ILL))["mesh"] == "Nodule/lung; normal"
    assert read_report(report(mesh=ILL))["normal"] == "0"
    assert read_report(report(mesh=""))["normal"] is None


def test_the_cohort_has_its_image_by_name_and_in_no_record(archive):
    path = archive([*many(), ("r/readme.txt", b"words")])
    cohort = load_cohort("openi-reports", root=path.parent)
    assert cohort.ids.tolist() == [f"CXR{n}" for n in range(1, 13)]  # by number, not by spelling
    present = dict(zip(cohort.schema.modalities, cohort.present.sum(axis=0).tolist(), strict=True))
    assert present == {"image": 0, "indication": 8}
    assert cohort.roles["findings"] == cohort.roles["impression"] == "text target"
    assert cohort.roles["mesh"] == "leak"
    values, known = cohort.targets("normal")
    assert (values.sum(), known.all()) == (6, True)
    batch = cohort.collate(list(cohort))
    assert "image" not in batch.values
    assert np.array_equal(batch.present.numpy(), cohort.present)


def test_the_archive_is_also_found_in_a_folder_of_its_name_and_by_the_variable(
    archive, tmp_path, monkeypatch
):
    path = archive(many())
    (tmp_path / "openi-reports").mkdir()
    path.rename(tmp_path / "openi-reports" / ARCHIVE)
    monkeypatch.setenv("MMMED_DATA", str(tmp_path))
    assert len(load_cohort("openi-reports")) == 12


def test_an_archive_that_is_not_there_is_explained(tmp_path, monkeypatch):
    monkeypatch.delenv("MMMED_DATA", raising=False)
    with pytest.raises(ValueError, match="neither root= nor MMMED_DATA is set"):
        load_cohort("openi-reports")
    with pytest.raises(ValueError, match="not shipped") as caught:
        load_cohort("openi-reports", root=tmp_path)
    for words in (str(tmp_path / "openi-reports"), "CC-BY-NC-ND", ARCHIVE, "ocv080"):
        assert words in str(caught.value)
    with pytest.raises(ValueError, match="Unknown option"):
        load_cohort("openi-reports", root=tmp_path, target="normal")


LAUGHS = b"""<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>
<eCitation><uId id="CXR1"/><AbstractText Label="FINDINGS">&b;</AbstractText></eCitation>"""
OUTSIDE = (
    b"""<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]><eCitation><uId id="&a;"/></eCitation>"""
)
FAR = b"""<!DOCTYPE x SYSTEM "http://localhost/x.dtd"><eCitation><uId id="1"/></eCitation>"""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (LAUGHS, "document type"),
        (OUTSIDE, "document type"),
        (FAR, "document type"),
        (
            LAUGHS.decode()
            .replace('?xml version="1.0"', '?xml version="1.0" encoding="utf-16"')
            .encode("utf-16"),
            "document type",
        ),
        (b"<eCitation><uId id='1'/>", "well-formed"),
        (b"", "well-formed"),
        (b"<eCitation>&undefined;</eCitation>", "well-formed"),
        (b"<eCitation/>", "no <uId"),
    ],
)
def test_a_hostile_or_broken_report_is_refused(content, words, archive):
    with pytest.raises(UnreadableFile, match=words):
        read_report(content)
    with pytest.raises(UnreadableFile, match=r"bad\.xml"):
        open_reports(archive([("r/bad.xml", content)]))


def test_links_and_folders_of_the_archive_are_passed_over_and_nothing_is_written(archive, tmp_path):
    link = tarfile.TarInfo("r/link.xml")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
    folder = tarfile.TarInfo("r/folder.xml")
    folder.type = tarfile.DIRTYPE
    path = archive([(link, b""), (folder, b""), ("../../outside.xml", report(99)), *many()])
    before = sorted(tmp_path.rglob("*"))
    assert len(open_reports(path)) == 13  # the name of a member is never used as a path
    assert sorted(tmp_path.rglob("*")) == before


def test_what_is_too_large_empty_or_no_archive_is_said(archive, tmp_path, monkeypatch):
    with pytest.raises(UnreadableFile, match=r"holds no \.xml report"):
        open_reports(archive([("a.txt", b"x")]))
    (tmp_path / "broken.tgz").write_bytes(archive(many()).read_bytes()[:200])
    with pytest.raises(UnreadableFile, match=r"broken\.tgz cannot be read"):
        open_reports(tmp_path / "broken.tgz")
    monkeypatch.setattr(openi, "LARGEST", 100)
    with pytest.raises(UnreadableFile, match="more than 100"):
        open_reports(archive(many()))
    monkeypatch.setattr(openi, "MOST", 3)
    monkeypatch.setattr(openi, "LARGEST", 10_000)
    with pytest.raises(UnreadableFile, match="more than 3 files"):
        open_reports(archive(many()))


@pytest.mark.real_data
def test_the_real_archive_has_the_published_counts(real_cohorts):
    if not (real_cohorts / "openi-reports" / ARCHIVE).is_file():
        pytest.skip("the archive is not there")
    cohort = load_cohort("openi-reports", root=real_cohorts)
    told = {name: sum(cell is not None for cell in cohort.column(name)) for name in openi.SECTIONS}
    assert told == {"indication": 3865, "comparison": 3333, "findings": 3425, "impression": 3921}
    assert len(cohort) == 3955
    assert cohort.targets("normal")[0].sum() == 1391
    assert sum(int(cell) for cell in cohort.column("images")) == 7470
    assert cohort.present.sum(axis=0).tolist() == [0, 3865]
