"""The words of the grammar: for every meaning the ways to say it, and nothing that two meanings share.

A parser finds the longest phrase first, so "part-solid" is never read as "solid". Negation and doubt have
words of their own and apply to one clause.
"""

from __future__ import annotations

from dataclasses import dataclass

FULL, SHORT = "full", "short"  # full words, or the abbreviations of site B


@dataclass(frozen=True)
class Statement:
    """One finding as a text states it.

    status: present, absent or uncertain; the rest is "" (or 0) where not stated. millimetres is there where
    the text gives a measurement; `size` is then the word that the measurement stands for.
    """

    finding: str
    status: str
    side: str = ""
    zone: str = ""
    size: str = ""
    millimetres: int = 0
    margin: str = ""
    density: str = ""


# What the history says, t = -1, 0, +1. Each is one finding with its status.
HISTORIES = (
    ("symptoms", "absent", ("no symptoms", "without symptoms", "no complaints", "free of complaints")),
    (
        "cough",
        "present",
        ("cough for two weeks", "persistent dry cough", "cough since last month", "dry cough"),
    ),
    (
        "haemoptysis",
        "present",
        (
            "haemoptysis and weight loss",
            "haemoptysis",
            "blood in the sputum",
            "weight loss and blood in the sputum",
        ),
    ),
)

# What the laboratory says of b and e, at the levels -1, 0, +1: the finding, and its status at each level.
LABORATORY = {
    "ldh": ("raised ldh", ("absent", "uncertain", "present")),
    "albumin": ("low albumin", ("present", "uncertain", "absent")),
}
LABORATORY_WAYS = {  # of a report, in full words
    ("raised ldh", "absent"): ("normal LDH", "LDH not raised"),
    ("raised ldh", "uncertain"): ("borderline LDH", "LDH possibly raised"),
    ("raised ldh", "present"): ("raised LDH", "LDH is raised"),
    ("low albumin", "absent"): ("normal albumin", "albumin not low"),
    ("low albumin", "uncertain"): ("borderline albumin", "albumin possibly low"),
    ("low albumin", "present"): ("low albumin", "albumin is low"),
}

FINDINGS = {  # words that name a finding, in full and short form
    "nodule": ("nodule", "opacity", "lesion"),
    "effusion": ("effusion", "pleural fluid", "eff"),
    "pneumothorax": ("pneumothorax", "ptx"),
    "symptoms": ("symptoms", "complaints"),
    "cough": ("cough",),
    "haemoptysis": ("haemoptysis", "blood in the sputum"),
    "suspicion": ("suspicious",),
    "raised ldh": ("LDH",),
    "low albumin": ("albumin",),
}
NEGATIONS = ("no", "not", "without", "free of", "neg", "normal")
HEDGES = ("possible", "possibly", "cannot be excluded", "may be", "query", "borderline")

SIZES = {
    "tiny": ("tiny", "minute"),
    "small": ("small", "little"),
    "medium": ("medium-sized", "mid-sized"),
    "large": ("large", "big"),
}
MARGINS = {
    "smooth": ("smooth", "round"),
    "lobulated": ("lobulated", "wavy"),
    "spiculated": ("spiculated", "star-shaped"),
}
DENSITIES = {
    "ground-glass": ("ground-glass", "faint"),
    "part-solid": ("part-solid", "half-solid"),
    "solid": ("solid", "dense"),
}
SIDES = {"right": ("right",), "left": ("left",)}
ZONES = {"upper": ("upper",), "middle": ("middle",), "lower": ("lower",)}
PLACES_SHORT = {  # side and zone in one abbreviation
    (side, zone): side[0].upper() + zone[0].upper() + "Z" for side in SIDES for zone in ZONES
}

# Borders between the sizes, in mm: midway between the diameters that the sizes can have.
BORDERS = ((12.5, "tiny"), (20.5, "small"), (30.0, "medium"), (float("inf"), "large"))


def size_word(millimetres: int) -> str:
    """The size that a diameter in whole millimetres stands for."""
    return next(word for border, word in BORDERS if millimetres < border)
