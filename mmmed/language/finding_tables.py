"""Findings as data: which words name them, what they need, and how they split into labels.

A table is a value: `to_dict` and `from_dict` carry it through JSON, so a hospital can write its own without
code. Patterns are regular expressions, matched on whole words in lower case. Nested repeats such as
"(a+)+" are refused, since they can take for ever on a hostile text; what is left runs on at most one sentence
(`sentences.LONGEST` characters).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from itertools import product
from pathlib import Path
from typing import Any

from mmmed.checks import check_known, plain
from mmmed.language.finding_cues import Cues

NAMES = ("chest", "breast-us", "synthetic")
BILATERAL = "bilateral"  # the side that counts as right and as left
ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "side": {
        "right": ("right(?:-sided)?", "r[ulm]l"),
        "left": ("left(?:-sided)?", "l[ul]l", "lingular?"),
        BILATERAL: ("bilateral(?:ly)?", "both", "bibasilar", "bibasal", "biapical"),
    },
    "zone": {
        "upper": ("upper", "superior", "[rl]ul"),
        "middle": ("middle", "mid", "mid-?lungs?", "rml"),
        "lower": ("lower", "inferior", "[rl]ll"),
        "apical": ("apical", "apex", "apices", "biapical"),
        "basal": ("basal", "basilar", "bases?", "bibasilar", "bibasal"),
        "lingula": ("lingular?",),
        "hilar": ("(?:peri|infra|supra)?hil(?:ar|um|a)",),
        "retrocardiac": ("retrocardiac",),
        "diffuse": ("diffuse(?:ly)?", "throughout"),
    },
    "severity": {
        "tiny": ("tiny", "minute", "trace", "minimal(?:ly)?"),
        "small": ("small", "little"),
        "mild": ("mild(?:ly)?", "slight(?:ly)?"),
        "moderate": ("moderate(?:ly)?", "medium-sized"),
        "large": ("large", "big"),
        "severe": ("severe(?:ly)?", "marked(?:ly)?", "massive", "extensive"),
    },
}
_NESTED = re.compile(r"\((?:[^()\\]|\\.)*[+*](?:[^()\\]|\\.)*\)(?:[+*]|\{\d*,\})")


@dataclass(frozen=True)
class Finding:
    """One finding of a table.

    patterns: the words that name it; one that begins with a negation states itself ("no acute disease").
    absent, uncertain: words that state its status by themselves ("normal heart size" of cardiomegaly).
    needs: modalities ANY ONE OF WHICH can show it: without all of them it cannot be stated, and a finding
    that needs none can be stated from whatever there is. by: attributes that split it into labels: "effusion"
    by "side" is "effusion, right" and "effusion, left". of: the finding whose mentions this one only
    describes, with `where` the attributes it must have and `unless` those it must not. label: False for
    words that need a modality but are no label. question: how to ask for it, where "Is there a ...?" with its
    name is no English: "Is the LDH raised?".
    """

    name: str
    patterns: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    uncertain: tuple[str, ...] = ()
    of: str = ""
    where: Mapping[str, str] = field(default_factory=dict)
    unless: Mapping[str, str] = field(default_factory=dict)
    label: bool = True
    question: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(f"A finding needs a name, got {plain(self.name)}.")
        if not isinstance(self.question, str):
            raise ValueError(f"The question of {self.name!r} should be text, got {plain(self.question)}.")
        for group in ("patterns", "needs", "by", "absent", "uncertain"):
            object.__setattr__(self, group, _words(getattr(self, group), f'"{group}" of {self.name!r}'))
        for pattern in (*self.patterns, *self.absent, *self.uncertain):
            check_pattern(pattern, f"finding {self.name!r}")


@dataclass(frozen=True)
class FindingTable:
    """Findings and the words around them.

    attributes: name -> value -> patterns. sizes: (border in mm, word), rising: what a measurement is called,
    "" leaves it a number. nothing: the finding that is present if and only if no other is present or
    uncertain, those in `nothing_but` aside ("No Finding" and "Support Devices" of CheXpert). otherwise: what
    a sentence that names no finding needs ("Scoliosis." needs the image), read as `needs` of a finding.
    """

    name: str
    findings: tuple[Finding, ...]
    cues: Cues = field(default_factory=Cues)
    attributes: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=lambda: ATTRIBUTES)
    sizes: tuple[tuple[float, str], ...] = ()
    nothing: str = ""
    nothing_but: tuple[str, ...] = ()
    otherwise: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "findings", tuple(self.findings))
        object.__setattr__(self, "sizes", tuple((float(border), word) for border, word in self.sizes))
        object.__setattr__(self, "otherwise", _words(self.otherwise, f'"otherwise" of {self.name!r}'))
        names = [finding.name for finding in self.findings]
        if len(set(names)) < len(names) or not names:
            raise ValueError(f"Table {self.name!r} needs findings with different names, got {plain(names)}.")
        for finding in self.findings:
            for attribute in (*finding.by, *finding.where, *finding.unless):
                check_known(attribute, self.attributes, what=f"attribute of {finding.name!r}")
            if finding.of:
                check_known(finding.of, names, what=f"finding that {finding.name!r} describes")
        for values in self.attributes.values():
            for value, patterns in values.items():
                for pattern in patterns:
                    check_pattern(pattern, f"attribute {value!r}")
        for group in fields(Cues):
            for pattern in getattr(self.cues, group.name):
                check_pattern(pattern, f"cues {group.name}")

    @property
    def labels(self) -> tuple[str, ...]:
        """All labels in a fixed order: that of the findings, and of the values that split them."""
        return tuple(label for finding in self.findings if finding.label for label in self.split(finding))

    def split(self, finding: Finding) -> dict[str, dict[str, str]]:
        """The labels of one finding, each with the attribute values that it stands for."""
        values = [[v for v in self.attributes[name] if v != BILATERAL] for name in finding.by]
        chosen = [dict(zip(finding.by, choice, strict=True)) for choice in product(*values)]
        return {_label(finding.name, choice): choice for choice in chosen}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form."""
        return json.loads(json.dumps(asdict(self)))

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> FindingTable:
        """The table of `to_dict`. Raises ValueError for a field that there is not."""
        given = dict(_fields(cls, table, "a finding table"))
        given["findings"] = tuple(
            Finding(**_fields(Finding, one, "a finding")) for one in given.get("findings", ())
        )
        if "cues" in given:
            told = _fields(Cues, given["cues"], "cues")
            given["cues"] = Cues(**{name: _words(words, f'"{name}"') for name, words in told.items()})
        if "attributes" in given:
            given["attributes"] = {
                name: {value: _words(words, f"{value!r}") for value, words in values.items()}
                for name, values in given["attributes"].items()
            }
        given["nothing_but"] = tuple(given.get("nothing_but", ()))
        return cls(**given)


def finding_table(table: str | Path | Mapping[str, Any] | FindingTable) -> FindingTable:
    """A table by name ("chest", "breast-us", "synthetic"), as a dict, or from a JSON file.

    Raises ValueError for a name that there is not, or a file that is no table.
    """
    if isinstance(table, FindingTable):
        return table
    if isinstance(table, Mapping):
        return FindingTable.from_dict(table)
    if Path(table).suffix == ".json":
        try:
            return FindingTable.from_dict(json.loads(Path(table).read_text(encoding="utf-8")))
        except (OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
            raise ValueError(f"The finding table {str(table)!r} cannot be read as JSON: {error}.") from error
    check_known(str(table), NAMES, what="finding table")
    from mmmed.language.finding_tables_breast import BREAST_US
    from mmmed.language.finding_tables_chest import CHEST
    from mmmed.language.finding_tables_synthetic import SYNTHETIC

    return dict(zip(NAMES, (CHEST, BREAST_US, SYNTHETIC), strict=True))[str(table)]


def check_pattern(pattern: str, owner: str) -> None:
    """Raise ValueError for what is no regular expression, matches nothing at all, or repeats a repeat."""
    if not isinstance(pattern, str):
        raise ValueError(f"A pattern of {owner} should be text, got {plain(pattern)}.")
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"The pattern {pattern!r} of {owner} is no regular expression: {error}. Escape signs such as "
            '"(" and "+" with a backslash.'
        ) from error
    if compiled.groups:
        raise ValueError(f'The pattern {pattern!r} of {owner} captures a group: write "(?:" for "(".')
    if compiled.fullmatch(""):
        raise ValueError(f"The pattern {pattern!r} of {owner} matches the empty text.")
    if _NESTED.search(pattern):
        raise ValueError(f"The pattern {pattern!r} of {owner} repeats a repeat, which can take for ever.")


def _label(name: str, choice: Mapping[str, str]) -> str:
    return f"{name}, {' '.join(choice.values())}" if choice else name


def _words(words: Any, owner: str) -> tuple[str, ...]:
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{owner} should be a list of texts, got {plain(words)}.")
    return tuple(words)


def _fields(kind: type, given: Any, what: str) -> Mapping[str, Any]:
    """The fields as given, after a check that there are only known ones and the ones without a default."""
    if not isinstance(given, Mapping):
        raise ValueError(f"The description of {what} should be a dict, got {plain(given)}.")
    known = [one.name for one in fields(kind)]
    for name in given:
        check_known(name, known, what=f"field of {what}")
    missing = {"name", "findings"} & set(known) - set(given)
    if missing:
        raise ValueError(f"The description of {what} lacks {', '.join(sorted(missing))}: {plain(given)}.")
    return given
