"""Croissant: a data card as JSON-LD that data set search and loaders read (mlcommons/croissant, format 1.0).

Core: name, licence, citation, distribution with checksums, record set and fields. RAI: every key of the
responsible-AI extension that the card has text for; a key without text is left out, never filled with a
phrase. For cohorts that are not shipped the distribution points to the source, not to a file of ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mmmed.evaluation.data_card_columns import descriptions, kind_of_column, unit_of
from mmmed.evaluation.data_card_files import table_digest
from mmmed.evaluation.data_card_headings import RAI

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.evaluation.data_card import DataCard

CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
TYPES = {"number": "sc:Float"}  # a path of a picture is text, as its cell is
EXAMPLES = 3  # records that stand in the export of patients who do not exist
SEVERAL = ("dataUseCases", "dataLimitations", "dataBiases", "personalSensitiveInformation")  # may be lists
TIME, STORY = "dataCollectionTimeframe", "dataCollection"
ITEM = re.compile(r"^- ", re.MULTILINE)


def croissant(card: DataCard) -> dict[str, Any]:
    """The card as a JSON-LD object. Only what is known stands in it."""
    header, cohort = card.header, card.cohort
    own = header.get("mmmed") if isinstance(header.get("mmmed"), Mapping) else {}
    files = _distribution(own, cohort)
    told = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": ["http://mlcommons.org/croissant/1.0", "http://mlcommons.org/croissant/RAI/1.0"],
        "name": re.sub(r"[^\w-]+", "-", card.name).strip("-") or "cohort",
        "description": own.get("summary"),
        "license": own.get("license_url"),
        "url": own.get("url"),
        "version": own.get("version"),
        "datePublished": own.get("published"),
        "citeAs": own.get("citation"),
        "creator": [{"@type": "sc:Organization", "name": name} for name in own.get("creators") or []],
        "keywords": header.get("tags"),
        "inLanguage": header.get("language"),
        "isLiveDataset": True if any("sha256" not in file for file in files) else None,
        "distribution": files,
        "recordSet": [_record_set(cohort, files)],
    }
    told |= {f"rai:{key}": value for key, value in _responsible(card.sections).items()}
    return json.loads(json.dumps({k: v for k, v in told.items() if v not in (None, "", [])}, default=str))


def _responsible(sections: Mapping[str, str]) -> dict[str, Any]:
    """RAI key -> text. A time frame holds dates only (start and end): one told in words joins the
    collection's story."""
    found: dict[str, Any] = {}
    for heading, key in RAI.items():
        words = sections.get(heading)
        if words and key in SEVERAL and words.startswith("- "):
            found[key] = [" ".join(item.split()) for item in ITEM.split(words) if item.strip()]
        elif words:
            found[key] = " ".join(ITEM.sub("", words).split())
    if TIME in found:
        words = found.pop(TIME)
        dates = re.findall(r"\b\d{4}-\d{2}-\d{2}\b", words)
        told = {TIME: dates} if dates else {STORY: " ".join([found.get(STORY, ""), words]).strip()}
        found |= told
    return found


def _distribution(own: Mapping[str, Any], cohort: Cohort) -> list[dict[str, Any]]:
    """Where the files are: the sources that the card names, else the table of a cohort of one's own."""
    if own:
        return [_file(k, source) for k, source in enumerate(own.get("sources") or (), start=1)]
    digest = table_digest(cohort)
    if digest is None:
        return []
    name, checksum = digest
    kind = "text/csv" if name.endswith(".csv") else "application/x-parquet"
    table = {"@type": "cr:FileObject", "@id": "table", "name": name, "contentUrl": quote(name)}
    return [{**table, "encodingFormat": kind, "sha256": checksum}]


def _file(number: int, source: Mapping[str, Any]) -> dict[str, Any]:
    """One source of a card's header as a file; inside: the number of the source that holds it."""
    told = {
        "@type": "cr:FileObject",
        "@id": f"source-{number}",
        "name": str(source["name"]),
        "description": source.get("what"),
        "contentUrl": str(source["url"]),
        "containedIn": {"@id": f"source-{source['inside']}"} if "inside" in source else None,
        "encodingFormat": str(source.get("format", "text/html")),
        "sha256": source.get("sha256"),
    }
    return {key: value for key, value in told.items() if value}


def _record_set(cohort: Cohort, files: list[dict[str, Any]]) -> dict[str, Any]:
    """One record set with a field per column; no cell of any patient. Only patients who do not exist are
    shown: the first records of a synthetic cohort, but for what is no text or number."""
    words = descriptions(cohort)
    names = [name for name in cohort.source.columns if files or name not in cohort.source.arrays]
    told = {"@type": "cr:RecordSet", "@id": "records", "name": "records"}
    told["description"] = "One record per examination; an empty cell is missing."
    if cohort.schema.id:
        told["key"] = {"@id": _id(cohort.schema.id)}
    told["field"] = [_field(cohort, name, words.get(name), files) for name in names]
    if cohort.truth is not None and not files:
        told["description"] = f"The first {EXAMPLES} of {len(cohort)} records."
        cells = {name: cohort[:EXAMPLES].column(name) for name in names}
        count = min(EXAMPLES, len(cohort))
        told["data"] = [{_id(name): cells[name][row] for name in names} for row in range(count)]
    return told


def _field(cohort: Cohort, name: str, words: str | None, files: list[dict[str, Any]]) -> dict[str, Any]:
    """A column: what it is, and the file that it is taken or was prepared from."""
    role, unit = cohort.roles.get(name, "other"), unit_of(cohort, name)
    said = "; ".join(part for part in (f"role: {role}", f"unit: {unit}" if unit else "", words or "") if part)
    told = {"@type": "cr:Field", "@id": _id(name), "name": name, "description": said}
    source = {"fileObject": {"@id": files[0]["@id"]}, "extract": {"column": name}} if files else None
    return {**told, "dataType": _type(cohort, name), **({"source": source} if source else {})}


def _type(cohort: Cohort, name: str) -> str:
    if name in cohort.source.arrays:
        return "sc:ImageObject"
    return TYPES.get(kind_of_column(cohort, name, cohort.column(name)), "sc:Text")


def _id(name: str) -> str:
    """A name from data as a part of an address."""
    return f"records/{quote(name, safe='')}"
