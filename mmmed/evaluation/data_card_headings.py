"""What a data card holds, in which order, and which Croissant key each heading answers.

The union of what known templates ask for: the Hugging Face dataset card, Croissant with its RAI extension
(mlcommons/croissant, docs/croissant-rai-spec.md), the network_data_format of MONAI bundles, the Data Cards
Playbook, and Datasheets for Datasets. Two things are ours: the block about what is missing, and that whatever
can be counted stands between markers and is counted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mmmed.types.prediction import NOTICE

UNWRITTEN = "Not written yet."
UNKNOWN = "Not known to us"  # how prose begins where nothing is known; no export repeats it
OPENING, CLOSING = "<!-- counted: {} -->", "<!-- end -->"


@dataclass(frozen=True)
class Heading:
    """One question of a card. rai: its key in Croissant's RAI vocabulary. parts: the counted parts below
    it."""

    name: str
    rai: str | None = None
    parts: tuple[str, ...] = ()


BLOCKS: dict[str, tuple[Heading, ...]] = {
    "In short": (Heading("What it is"),),
    "People behind it": (
        Heading("Who made it"),
        Heading("Who shared it"),
        Heading("Who paid for it"),
        Heading("Whom to ask"),
        Heading("Who wrote this card, and when"),
    ),
    "Why it was made, and what for": (
        Heading("Why it was made"),
        Heading("What it is good for", "dataUseCases"),
        Heading("What it must not be used for"),
        Heading("What it was used for before"),
        Heading("What using it may do to people", "dataSocialImpact"),
    ),
    "What is in it": (
        Heading("Records and patients", parts=("sizes",)),
        Heading("Splits", parts=("splits",)),
        Heading("Columns", parts=("columns",)),
        Heading("How columns belong together"),
        Heading("Who reads what", parts=("inputs",)),
        Heading("Labels", parts=("labels",)),
        Heading("Files and checksums", parts=("files",)),
        Heading("The known answer", parts=("known answer",)),
    ),
    "How it came about": (
        Heading("Source", "dataCollection"),
        Heading("Kind of collection", "dataCollectionType"),
        Heading("When", "dataCollectionTimeframe"),
        Heading("Raw data", "dataCollectionRawData"),
        Heading("Sites and devices"),
        Heading("Who is in it, and who is not"),
        Heading("Preparation", "dataPreprocessingProtocol"),
        Heading("Changed values", "dataManipulationProtocol"),
    ),
    "What is missing": (
        Heading("What is recorded together", parts=("patterns",)),
        Heading("How a gap is written"),
        Heading("Why it is missing, as far as we can tell", "dataCollectionMissingData"),
        Heading("What the gaps give away", parts=("presence",)),
        Heading("Imputation", "dataImputationProtocol"),
    ),
    "Labels and annotations": (
        Heading("How it was annotated", "dataAnnotationProtocol"),
        Heading("Tools of the annotators", "dataAnnotationPlatform"),
        Heading("Who annotated", "annotatorDemographics"),
        Heading("Raters per item", "annotationsPerItem"),
        Heading("Agreement", "dataAnnotationAnalysis"),
        Heading("Labels made by rules or models", "machineAnnotationTools"),
    ),
    "The people in the data": (
        Heading("Consent and ethics"),
        Heading("De-identification"),
        Heading("Sensitive columns", "personalSensitiveInformation"),
        Heading("Subgroups", parts=("subgroups",)),
    ),
    "Bias, leaks and limits": (
        Heading("Columns that know the answer", parts=("leaks",)),
        Heading("Confounders and bias", "dataBiases", parts=("confounders",)),
        Heading("The same patient or picture twice", parts=("duplicates",)),
        Heading("Plain baselines", parts=("baselines",)),
        Heading("Limits", "dataLimitations"),
    ),
    "Getting it, and upkeep": (
        Heading("Licence of each part"),
        Heading("Attribution"),
        Heading("Where to get it"),
        Heading("Changes made"),
        Heading("Versions and plan", "dataReleaseMaintenancePlan"),
    ),
}
HEADINGS = {heading.name: heading for block in BLOCKS.values() for heading in block}
RAI = {heading.name: heading.rai for heading in HEADINGS.values() if heading.rai}


def blank(title: str, parts: Iterable[str]) -> str:
    """A card without prose: every heading, what is not written said to be so, and a place for each counted
    part. title: in Markdown, escaped already."""
    parts = set(parts)
    lines = [f"# {title}", "", f"**{NOTICE}** No diagnostic claim may rest on these data.", ""]
    for block, headings in BLOCKS.items():
        lines += [f"## {block}", ""]
        for heading in headings:
            places = [part for part in heading.parts if part in parts]
            if heading.parts and not places:
                continue
            lines += [f"### {heading.name}", ""]
            if not places:
                lines += [UNWRITTEN, ""]
            for part in places:
                lines += [OPENING.format(part), CLOSING, ""]
    return "\n".join(lines)
