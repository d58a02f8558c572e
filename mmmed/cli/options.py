"""Arguments and options that several commands share, so that they mean the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

SOURCE = (
    "A known cohort (synthetic; diabetes, digits, breast-cancer; breast-us, hannover-cxr, covid-cxr,"
    " lgg-mri, openi-reports), a folder with metadata.csv and schema.json, or a CSV file (then name its"
    " columns)."
)

Source = Annotated[str, typer.Argument(help=SOURCE, metavar="COHORT")]
Model = Annotated[
    Path, typer.Argument(help="The folder that finetune or save_pretrained wrote.", metavar="MODEL")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text for people.")]
Patients = Annotated[int, typer.Option(help="Patients of the synthetic cohort.")]
Seed = Annotated[int, typer.Option(help="Same seed, same result.")]
ImageColumn = Annotated[str, typer.Option("--image", help="CSV: the column of image paths.")]
Columns = Annotated[
    list[str] | None, typer.Option("--tabular", help="CSV: a column of the table (repeat it).")
]
TextColumn = Annotated[str, typer.Option("--text", help="CSV: the column of free text.")]
Target = Annotated[str, typer.Option("--target", help="CSV: the column to predict.")]
Phrases = Annotated[
    str, typer.Option(help="Masks: a CSV of record, expression, mask; else those of the cohort.")
]
Group = Annotated[str, typer.Option("--group", help="CSV: the column that names the patient.")]
