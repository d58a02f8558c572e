"""Open-I chest X-ray reports of Indiana University: 3,955 reports as text, read in memory from their archive.

No pixels are in the archive, so the modality "image" is there by name and absent throughout: what a model
makes of these records comes from words alone. De-identified words read XXXX.

Source: Demner-Fushman et al., JAMIA 2016, doi:10.1093/jamia/ocv080. Licence CC BY-NC-ND 4.0 (Indiana
University): no commercial use, no changed copies. Nothing is therefore written, and nothing is shipped.

The archive is a file from outside: only regular .xml members are read, none is unpacked to disk, sizes are
bounded, and XML with a document type (the door to entities, inside the file or on the network) is refused.
"""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree
from xml.parsers import expat

from mmmed.checks import UnreadableFile, plain
from mmmed.data.inference import Columns
from mmmed.data.paths import reading
from mmmed.types import Binary, Image, Schema, Text

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

NAME = "openi-reports"
ARCHIVE = "NLMCXR_reports.tgz"
SECTIONS = ("indication", "comparison", "findings", "impression")
LARGEST = 1_000_000  # bytes of one report; the largest of the collection has about 9,000
MOST = 100_000  # files in the archive
ROLES = {
    "id": "id",
    "indication": "input",
    "comparison": "other",
    "findings": "text target",
    "impression": "text target",
    "mesh": "leak",  # coded from the report itself
    "normal": "target",
    "images": "other",
    "picture": "input",
}


def open_reports(
    path: str | os.PathLike[str], *, missing_files: str = "error", unreadable: str = "error"
) -> Cohort:
    """The archive NLMCXR_reports.tgz as a cohort, split by record with seed 0.

    Columns: id; indication (the input "indication"); comparison; findings and impression (text targets);
    mesh (major headings, joined by "; "); normal ("1" where the only major heading is "normal", the task);
    images (how many pictures belong to the report); picture (always empty). A section without text is
    missing. Every report counts as a patient of its own: the collection names no patients. Raises
    UnreadableFile for an archive or report that is damaged, too large or has a document type.
    """
    from mmmed.data.cohort import Cohort
    from mmmed.data.sources import read_columns

    rows = read_archive(path)
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in ROLES if name != "picture"}
    source = read_columns({**columns, "picture": _empty(len(rows))}, name=NAME)
    schema = Schema(
        modalities={"image": Image("picture"), "indication": Text("indication")},
        tasks={"normal": Binary("normal")},
        id="id",
    )
    return Cohort.from_source(source, Columns(), schema, None, ROLES, missing_files, unreadable, 0)


def find_archive(root: str | os.PathLike[str] | None, variable: str) -> Path:
    """The archive in a folder of cohorts, or in that folder itself. Raises ValueError that says how to get
    it."""
    base = root if root is not None else os.environ.get(variable)
    if base is not None:
        for folder in (Path(base) / NAME, Path(base)):
            if (folder / ARCHIVE).is_file():
                return folder / ARCHIVE
    searched = (
        f"{Path(base) / NAME} and {base}"
        if base is not None
        else f"nowhere, as neither root= nor {variable} is set"
    )
    raise ValueError(
        f'The cohort "{NAME}" is not there: 3,955 chest X-ray reports without pictures (Open-I). It is not '
        "shipped with mmmed and nothing is downloaded.\n"
        f"  searched: {searched}; pass root= or set the environment variable {variable} to the folder above "
        "it\n"
        f"  download: {ARCHIVE} from openi.nlm.nih.gov/faq, doi:10.1093/jamia/ocv080; torchxrayvision holds "
        "it too (data/)\n"
        "  licence:  CC-BY-NC-ND-4.0: no commercial use, no changed copies\n"
        f"  place:    <root>/{NAME}/{ARCHIVE}, as it is, not unpacked"
    )


def read_archive(path: str | os.PathLike[str]) -> list[dict[str, str | None]]:
    """One row per report, in the order of their numbers."""
    path = Path(path)
    rows = []
    with reading(path.name), tarfile.open(path, "r:gz") as archive:
        for count, member in enumerate(archive):
            if count >= MOST:
                raise UnreadableFile(
                    f"{path.name} holds more than {MOST} files: it is not the Open-I archive."
                )
            if not (member.isreg() and member.name.endswith(".xml")):
                continue
            subject = f"{path.name}: {plain(member.name)}"
            if member.size > LARGEST:
                raise UnreadableFile(
                    f"{subject} has {member.size} bytes, more than {LARGEST}: no report has."
                )
            stream = archive.extractfile(member)
            rows.append(read_report(stream.read() if stream is not None else b"", subject))
    if not rows:
        raise UnreadableFile(f"{path.name} holds no .xml report. Take the file {ARCHIVE} as it is.")
    return sorted(rows, key=lambda row: (len(row["id"]), row["id"]))


def read_report(content: bytes, subject: str = "the report") -> dict[str, str | None]:
    """The columns of one report. Raises UnreadableFile if it is no well-formed report."""
    tree = parse_xml(content, subject)
    name = tree.find("uId")
    if name is None or not name.get("id", "").strip():
        raise UnreadableFile(f"{subject} has no <uId id=...>: it is no report of Open-I.")
    told = {part.get("Label", "").lower(): _text(part) for part in tree.iter("AbstractText")}
    major = [text for text in map(_text, tree.iterfind("MeSH/major")) if text]
    return {
        "id": name.get("id", "").strip(),
        **{section: told.get(section) for section in SECTIONS},
        "mesh": "; ".join(major) or None,
        "normal": None if not major else str(int([text.lower() for text in major] == ["normal"])),
        "images": str(sum(1 for _ in tree.iter("parentImage"))),
    }


def parse_xml(content: bytes, subject: str) -> ElementTree.Element:
    """The root of an XML file without a document type, whatever its encoding.

    A document type is refused when the parser meets it, before any entity is declared: "billion laughs" and
    external entities both need one.
    """
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.buffer_text = True

    def refuse(*_: Any) -> None:
        raise UnreadableFile(f"{subject} has a document type, which may hide entities. No report needs one.")

    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    try:
        parser.Parse(content, True)
    except expat.ExpatError as error:
        raise UnreadableFile(f"{subject} is no well-formed XML: {error}. Copy the archive again.") from error
    return builder.close()


def _text(part: ElementTree.Element) -> str | None:
    """The words of an element, spaces in one; None where there are none."""
    return " ".join("".join(part.itertext()).split()) or None


def _empty(rows: int) -> Any:
    import pyarrow as pa

    return pa.nulls(rows, pa.string())
