"""Masks on the command line: training a segmenter, scoring it, and asking it about one picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.checks import listing, plain, suggestion

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort
    from mmmed.evaluation.masks import MaskScores
    from mmmed.models.referring_segmenter import ReferringSegmenter
    from mmmed.types import Mask, Phrase, Record, Schema

PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp", ".dcm")
KEYS = {"Sentences": "sentences"}  # in JSON, beside the scores of a part under its name
VOLUMES = (".nii", ".nii.gz", ".npz", ".npy")


def train_masks(
    cohort: Cohort,
    output: Path,
    epochs: int | None,
    seed: int,
    as_json: bool,
    phrases: str,
    sentences: bool = False,
    **made: Any,
) -> Any:
    """Train, score on the test part (the validation part if nothing is asked about it), and say it: text, or
    plain data. sentences: of the synthetic reports, true and false ones, are taught and scored as well."""
    from mmmed.data.phrase_truth import taught_phrases
    from mmmed.models.referring_segmenter import ReferringSegmenter
    from mmmed.training.mask_finetune import finetune_masks

    if sentences and phrases:
        raise ValueError(
            "--phrases are your own, --sentences those of the synthetic reports; give one of them."
        )
    told = taught_phrases(cohort) if sentences else phrases or None
    segmenter = ReferringSegmenter.from_cohort(cohort, told, seed=seed, **made)
    options = {"epochs": epochs, "output": output, "seed": seed, "progress": not as_json}
    run = finetune_masks(segmenter, cohort, told, **options)
    found = _scored(segmenter, cohort, phrases or None, sentences)
    if not found:
        said = {"epochs": list(run.history)}
        nothing = "Nothing was scored: no phrase is about a test or validation record."
        return said if as_json else f"{run}\n\n{nothing}"
    segmenter.card["tables"] = {
        f"{what} of the {part} part": scores.table().to_markdown() for (what, part), scores in found.items()
    }
    segmenter.save_pretrained(output / "model")
    if as_json:
        scored = {KEYS.get(what, part): scores.to_dict() for (what, part), scores in found.items()}
        return {"epochs": list(run.history), "best_epoch": run.best_epoch, **scored}
    tables = [f"{what} of the {part} part\n{scores}" for (what, part), scores in found.items()]
    return "\n\n".join([str(run), *tables, f"The segmenter: {output / 'model'}"])


def _scored(
    segmenter: ReferringSegmenter, cohort: Cohort, phrases: str | None, sentences: bool
) -> dict[tuple[str, str], MaskScores]:
    """("Masks", part) -> scores on the phrases about the test part, or the validation part if there are none;
    ("Sentences", part) -> on those of its reports. Empty if nothing is asked about either part."""
    from mmmed.data.phrase_truth import report_phrases
    from mmmed.evaluation.masks import evaluate_masks

    asked = {part: asked_of(cohort[part], phrases) for part in ("test", "val")}
    part = next((part for part, some in asked.items() if some), None)
    if part is None:
        return {}
    found = {("Masks", part): evaluate_masks(segmenter, cohort[part], asked[part])}
    if sentences:
        told = report_phrases(cohort[part], twins=True)
        found["Sentences", part] = evaluate_masks(segmenter, cohort[part], told)
    return found


def asked_of(cohort: Cohort, phrases: str | None) -> tuple[Phrase, ...]:
    """The phrases about the records of a part; none where nothing is asked about it.

    A table or a mask that cannot be read is an error.
    """
    from mmmed.data.phrases import NoPhrases, phrases_of

    try:
        return phrases_of(cohort, phrases) if len(cohort) else ()
    except NoPhrases:
        return ()


def score_masks(segmenter: ReferringSegmenter, cohort: Cohort, phrases: str | None) -> MaskScores:
    """The scores of a saved segmenter on the phrases of a CSV, or those that come with a cohort."""
    from mmmed.data.phrases import phrases_of
    from mmmed.evaluation.masks import evaluate_masks

    return evaluate_masks(segmenter, cohort, phrases_of(cohort, phrases))


def ask_for_masks(
    segmenter: ReferringSegmenter,
    source: str,
    phrases: Sequence[str] | None,
    *,
    record: str = "",
    spacing: str = "",
    threshold: float | None = None,
    patients: int = 600,
    seed: int = 0,
) -> list[Mask]:
    """One mask per phrase. source: a picture or volume, a JSON file with one record, or a cohort of which
    `record` is one."""
    if not phrases:
        raise ValueError('Say what to look for: --phrase "the lesion on the left" (repeat it for more).')
    options = {"spacing": lengths_of(spacing), "threshold": threshold}
    path = Path(source)
    of_picture = source.lower().endswith((*PICTURES, *VOLUMES))
    if not (of_picture or path.suffix.lower() == ".json"):
        cohort = open_for(segmenter, source, patients, seed)
        return segmenter.segment(find_record(cohort, record), list(phrases), **options)
    if record:
        raise ValueError(f"--record is for cohorts; {source} is one record.")
    if not path.is_file():
        raise ValueError(f"{source} is no file. Give a picture, a JSON file with one record, or a cohort.")
    if of_picture:
        _check_single(segmenter, source)
        return segmenter.segment(path, list(phrases), **options)
    from mmmed.cli.reports import read_record

    return segmenter.segment(read_record(path, schema_of(segmenter), None), list(phrases), **options)


def _check_single(segmenter: ReferringSegmenter, source: str) -> None:
    """Raises ValueError where one file does not say which sequence it is."""
    if len(segmenter.modalities) > 1:
        columns = [segmenter.schema.modalities[name].column for name in segmenter.modalities]
        example = ", ".join(f'"{column}": "{column}.nii.gz"' for column in columns[:2])
        raise ValueError(
            f"The model draws on {listing(segmenter.modalities)}, and {source} does not say which one it is. "
            f"Give a JSON file with one record, such as {{{example}}}; those that there are will do."
        )


def schema_of(segmenter: ReferringSegmenter) -> Schema:
    """What of a row is read: the pictures, and what a language model that reads the phrases reads as well."""
    from mmmed.models.segment_records import joined

    return joined(segmenter.schema, segmenter.reader.schema)


def lengths_of(spacing: str) -> tuple[float, ...] | None:
    """ "0.5,0.5" -> millimetres; "" -> None."""
    if not spacing:
        return None
    try:
        return tuple(float(length) for length in spacing.split(","))
    except ValueError as error:
        raise ValueError(
            f"--spacing takes mm per pixel as row,column or depth,row,column, such as 0.2,0.2; got "
            f"{plain(spacing)}."
        ) from error


def open_for(segmenter: ReferringSegmenter, source: str, patients: int, seed: int) -> Cohort:
    """A cohort that has what the segmenter draws on; a CSV file by the columns of its schemas."""
    from mmmed.cli import cohorts

    columns = {"schema": schema_of(segmenter)} if source.lower().endswith(".csv") else {}
    cohort = cohorts.open_cohort(source, patients, seed, **columns)
    if not set(segmenter.modalities) & set(cohort.schema.modalities):
        raise ValueError(
            f"The model draws on {listing(segmenter.modalities)}; {source} has "
            f"{listing(cohort.schema.modalities)}."
        )
    return cohort


def find_record(cohort: Cohort, name: str) -> Record:
    """The record of that id; the only one where no name is given."""
    ids = cohort.ids.tolist()
    if not name and len(ids) == 1:
        return cohort[0]
    if name not in ids:
        asked = f"There is no record {plain(name)}.{suggestion(name, ids)}" if name else "Say which record:"
        raise ValueError(f"{asked} --record takes one of {listing(ids, 4)}.")
    return cohort[ids.index(name)]


def write_masks(masks: Sequence[Mask], folder: Path) -> dict[str, Any]:
    """mask_<n>.png (.npz of a volume), overlay_<n>.png, masks.json; -> what masks.json says."""
    folder.mkdir(parents=True, exist_ok=True)
    told = []
    for number, mask in enumerate(masks, start=1):
        files = {
            "mask": f"mask_{number}{'.png' if mask.pixels.ndim == 2 else '.npz'}",
            "overlay": f"overlay_{number}.png",
        }
        mask.save(folder / files["mask"])
        mask.overlay().save(folder / files["overlay"])
        told.append({**mask.to_dict(), "files": files})
    content = {"masks": told}
    (folder / "masks.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    return content


def describe(masks: Sequence[Mask]) -> str:
    """The answers as a table for people, with what must be known about them."""
    from mmmed.types.mask import printable
    from mmmed.types.prediction import NOTICE

    rows = [("phrase", "there?", "presence", "size")]
    for mask in masks:
        size = f"{mask.share:.1%} of it" if mask.size is None else f"{mask.size:,.4g} {mask.unit}"
        there = "yes" if mask.present else "no"
        rows.append((printable(mask.phrase), there, f"{mask.presence:.3f}", size if mask.present else ""))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    used, missing = (", ".join(names) or "nothing" for names in (masks[0].used, masks[0].missing))
    lines += ["", f"record {printable(masks[0].id)}; used: {used}; missing: {missing}"]
    lines += [
        f"note: {printable(note)}" for note in dict.fromkeys(note for mask in masks for note in mask.notes)
    ]
    return "\n".join([*lines, NOTICE])
