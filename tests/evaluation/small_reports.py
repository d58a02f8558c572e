"""Reports for the tests, and a labeller of twenty lines that stands in for the real one."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np

from mmmed.language.sentences import sentences

FINDINGS = ("nodule", "effusion", "pneumothorax", "cardiomegaly")
NEGATIONS = r"\b(no|not|without)\b"
SIDES, ZONES = ("right", "left", "bilateral"), ("upper", "middle", "lower")
SEVERITIES = ("small", "moderate", "large")


def mention(finding, sentence=0, text="", status="present", side="", zone="", severity="", millimetres=0.0):
    return SimpleNamespace(
        finding=finding,
        status=status,
        side=side,
        zone=zone,
        severity=severity,
        sentence=sentence,
        text=text,
        millimetres=millimetres,
    )


class WordLabeller:
    """One status per sentence; the first side, zone and severity of the sentence."""

    table = SimpleNamespace(
        labels=("nodule", "effusion, right", "effusion, left", "pneumothorax", "cardiomegaly")
    )

    def mentions(self, text):
        found = []
        for k, sentence in enumerate(sentences(text)):
            low = sentence.lower()
            status = (
                "absent" if re.search(NEGATIONS, low) else "uncertain" if "possible" in low else "present"
            )
            side, zone, severity = (_first(words, low) for words in (SIDES, ZONES, SEVERITIES))
            found += [
                mention(name, k, name, status, side, zone, severity) for name in FINDINGS if name in low
            ]
        return tuple(found)

    def labels(self, text):
        rank, found = {"present": 3, "uncertain": 2, "absent": 1}, {}
        for item in self.mentions(text):
            names = [item.finding]
            if item.finding == "effusion":
                sides = [item.side] if item.side in ("right", "left") else ["right", "left"]
                names = [f"effusion, {side}" for side in sides]
            for name in names:
                if rank[item.status] > rank.get(found.get(name), 0):
                    found[name] = item.status
        return found


def _first(words, text):
    return next((word for word in words if re.search(rf"\b{word}\b", text)), "")


def compares(sentence):
    return bool(re.search(r"\b(unchanged|compared|larger than|prior)\b", sentence.lower()))


def reports(count, seed=0):
    """References and hypotheses of about 25 words that differ in a third of their sentences."""
    rng = np.random.default_rng(seed)
    told, said = [], []
    for _ in range(count):
        parts = [_sentence(name, rng) for name in FINDINGS]
        other = [
            _sentence(name, rng) if rng.random() < 0.35 else part
            for name, part in zip(FINDINGS, parts, strict=True)
        ]
        told.append(" ".join(parts))
        said.append(" ".join(other))
    return told, said


def _sentence(name, rng):
    if rng.random() < 0.5:
        return f"No {name} is seen in this examination."
    side, zone, size = (str(rng.choice(words)) for words in (SIDES[:2], ZONES, SEVERITIES))
    return f"There is a {size} {name} on the {side} in the {zone} zone."
