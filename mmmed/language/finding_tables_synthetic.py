"""The finding table of the synthetic cohort, from the words of its grammar (`data.synthetic.words`).

A tiny nodule is a nodule at its place, but gives no label of margin, density or size. "Suspicious" needs
the picture and is no label. Each sentence of a report needs exactly one modality.
"""

from __future__ import annotations

import re

from mmmed.data.synthetic import words
from mmmed.language.finding_cues import Cues
from mmmed.language.finding_tables import BILATERAL, Finding, FindingTable


def _ways(meaning: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    return {value: tuple(re.escape(way) for way in ways) for value, ways in meaning.items()}


def _places(word: str) -> tuple[str, ...]:
    """A side or zone in full, and the abbreviations of places that contain it ("LLZ")."""
    return (word, *(short.lower() for place, short in words.PLACES_SHORT.items() if word in place))


def _attribute(name: str, values: tuple[str, ...]) -> tuple[Finding, ...]:
    """Labels that say how a nodule looks."""
    key = "severity" if name == "size" else name
    return tuple(
        Finding(
            f"{name} {value}", needs=("image",), of="nodule", where={key: value}, unless={"severity": "tiny"}
        )
        for value in values
    )


def _laboratory(name: str, value: str, state: str, question: str) -> Finding:
    """A value that is raised or low, normal, or borderline: "LDH is raised", "LDH possibly raised"."""
    return Finding(
        name,
        patterns=(f"{state} {value}", rf"{value} (?:is |was )?(?:\w+ )?{state}"),
        needs=("table",),
        absent=(f"normal {value}", f"{value} (?:is )?normal"),
        uncertain=(f"borderline {value}", f"{value} (?:is )?borderline"),
        question=question,
    )


_NO_SYMPTOMS = ("(?:no|without|free of)(?: any)? (?:symptoms|complaints)",)

SYNTHETIC = FindingTable(
    "synthetic",
    findings=(
        Finding("nodule", ("nodules?", "opacit(?:y|ies)", "lesions?"), ("image",), by=("side", "zone")),
        Finding("effusion", ("effusions?", "pleural fluid", "eff"), ("image",), by=("side",)),
        Finding("pneumothorax", ("pneumothora(?:x|ces)", "ptx"), ("image",)),
        *_attribute("margin", ("lobulated", "spiculated")),
        *_attribute("density", ("part-solid", "solid")),
        *_attribute("size", ("medium", "large")),
        Finding("cough", ("cough",), ("text",), absent=_NO_SYMPTOMS),
        Finding("haemoptysis", ("ha?emoptysis", "blood in the sputum"), ("text",), absent=_NO_SYMPTOMS),
        _laboratory("raised ldh", "ldh", "raised", "Is the LDH raised?"),
        _laboratory("low albumin", "albumin", "low", "Is the albumin low?"),
        Finding("suspicion", ("suspicious",), ("image",), label=False),
    ),
    cues=Cues(past=()),
    attributes={
        "side": {
            **{side: _places(side) for side in words.SIDES},
            BILATERAL: ("bilateral(?:ly)?", "both"),
        },
        "zone": {zone: _places(zone) for zone in words.ZONES},
        "severity": _ways(words.SIZES),
        "margin": _ways(words.MARGINS),
        "density": _ways(words.DENSITIES),
    },
    sizes=words.BORDERS,
    otherwise=("image",),
)
