"""The descriptors of a breast lesion on ultrasound, as in BrEaST (Pawłowska et al., Sci. Data 11:148, 2024).

Each label is one value of one descriptor; "margin circumscribed" absent means not circumscribed. The words
are those of the ACR BI-RADS lexicon, fifth edition.
"""

from __future__ import annotations

from mmmed.language.finding_cues import Cues
from mmmed.language.finding_tables import Finding, FindingTable

IMAGE = ("image",)
_NO_FEATURE = ("no posterior (?:acoustic )?features?",)
_NO_CALCIFICATION = ("(?:no|without) (?:micro-?)?calcifications?",)
_CALCIFICATION = "(?:micro-?)?calcifications?"


def _values(
    name: str, values: dict[str, tuple[str, ...]], question: str, absent: tuple[str, ...] = ()
) -> tuple[Finding, ...]:
    """One finding for every value of a descriptor. question: with "{}" for the value."""
    return tuple(
        Finding(f"{name} {value}", words, IMAGE, absent=absent, question=question.format(value))
        for value, words in values.items()
    )


BREAST_US = FindingTable(
    "breast-us",
    findings=(
        Finding("lesion", ("lesions?", "mass(?:es)?"), IMAGE),
        *_values("shape", {word: (word,) for word in ("irregular", "oval", "round")}, "Is the shape {}?"),
        Finding(
            "margin circumscribed",
            ("(?:well[ -])?circumscribed",),
            IMAGE,
            absent=("(?:not|non|poorly)[ -](?:well[ -])?circumscribed",),
            question="Is the margin circumscribed?",
        ),
        *_values(
            "margin",
            {word: (word,) for word in ("indistinct", "spiculated", "angular", "microlobulated")},
            "Is the margin {}?",
        ),
        *_values(
            "echogenicity",
            {
                **{
                    word: (word,)
                    for word in ("anechoic", "hypoechoic", "isoechoic", "hyperechoic", "heterogeneous")
                },
                "complex cystic/solid": ("complex cystic(?:/| and )solid",),
            },
            "Is the echogenicity {}?",
        ),
        *_values(
            "posterior",
            {
                "shadowing": ("posterior (?:acoustic )?shadow(?:ing)?",),
                "enhancement": ("posterior (?:acoustic )?enhancement",),
                "combined": ("combined posterior (?:acoustic )?features?",),
            },
            "Is the posterior feature {}?",
            absent=_NO_FEATURE,
        ),
        Finding("halo", ("(?:echogenic )?halo",), IMAGE),
        Finding("calcification", (_CALCIFICATION,), IMAGE, question="Is there any calcification?"),
        *_values(
            "calcification",
            {
                "in a mass": (f"{_CALCIFICATION} in (?:a|the) (?:mass|lesion)",),
                "intraductal": (f"intraductal {_CALCIFICATION}",),
                "indefinable": (f"indefinable {_CALCIFICATION}",),
            },
            "Is the calcification {}?",
            absent=_NO_CALCIFICATION,
        ),
        Finding("skin thickening", ("skin thickening", "thickening of the skin", "thickened skin"), IMAGE),
        *(
            Finding(
                f"birads {grade}",
                (rf"bi-?rads(?: category)?:? {grade}",),
                IMAGE,
                question=f"Is the category BI-RADS {grade}?",
            )
            for grade in ("1", "2", "3", "4a", "4b", "4c", "5")
        ),
    ),
    # "not circumscribed" is a word of its own here: it denies nothing that comes after it
    cues=Cues(neutral=(*Cues().neutral, "(?:not|non)[ -](?:well[ -])?circumscribed")),
    otherwise=IMAGE,
)
