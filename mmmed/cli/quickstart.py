"""The main job once through, on patients that need no download: what a newcomer runs first."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mmmed.types.prediction import NOTICE

if TYPE_CHECKING:
    from rich.console import Console

    from mmmed.evaluation.scores import Table

NEXT = """What to try next
  mmmed demo                                             a page on which you take a modality away
  mmmed evaluate {model} synthetic --seed 1 --stress     the same table for other patients
  mmmed audit my.csv --image path --tabular age --target sepsis --group patient
  mmmed finetune my.csv --image path --tabular age --target sepsis --group patient -o runs/mine
  in Python:
      import mmmed
      model = mmmed.load_model("{model}")
      patient = mmmed.load_cohort("synthetic", patients=600, seed=1)["test"][0]
      mmmed.predict(model, patient.without("image"))"""


def run_quickstart(
    output: Path, *, patients: int, epochs: int, seed: int, console: Console, progress: bool = True
) -> None:
    """Cohort, audit, training, every subset of modalities, one patient's trajectory; all saved under
    `output`."""
    import mmmed
    from mmmed.explain.trajectories import plot_trajectory
    from mmmed.training.augment import Augmentation

    console.print(f"mmmed quickstart. {NOTICE}", style="bold")
    _say(console, f"1  {patients} synthetic patients with image, table and text")
    cohort = mmmed.load_cohort("synthetic", patients=patients, seed=seed)
    console.print(str(cohort), markup=False, highlight=False)

    _say(console, "2  Audit, before any training")
    console.print(str(mmmed.audit(cohort)), markup=False, highlight=False, soft_wrap=True)

    _say(console, "3  Training")
    model = mmmed.create_model(cohort.schema, fusion="multimodn", seed=seed)
    mirrored = Augmentation(flip=True)  # here the diagnosis does not depend on the side; the default is off
    settings = {"epochs": epochs, "augmentation": mirrored, "seed": seed, "progress": progress}
    run = mmmed.finetune(model, cohort, output=output, resume=False, **settings)
    console.print(str(run), markup=False, highlight=False)

    _say(console, "4  Every subset of modalities, on patients the model has never seen")
    benchmark = mmmed.missingness_benchmark(model, cohort["test"], output=output / "benchmark")
    console.print(str(short(benchmark.table)), markup=False, highlight=False, soft_wrap=True)
    save_figure(benchmark.plot(), output / "subsets.png")

    _say(console, "5  One patient, step by step")
    prediction = mmmed.predict(model, cohort["test"][0])
    console.print(str(prediction), markup=False, highlight=False, soft_wrap=True)
    save_figure(plot_trajectory(prediction), output / "trajectory.png")
    model.card["tables"] = {"Every subset of modalities (test part)": benchmark.table.to_markdown()}
    model.save_pretrained(output / "model")

    _say(console, f"Saved under {output}: model/, benchmark/, subsets.png, trajectory.png, metrics.jsonl")
    console.print(NEXT.format(model=output / "model"), markup=False, highlight=False, soft_wrap=True)


def short(table: Table) -> Table:
    """The subsets and the columns that fit a terminal; all of it is saved."""
    columns = ("seen", "n", "auroc", "ceiling", "share_of_way", "brier")
    rows = ({name: row.get(name) for name in columns} for row in table if row["kind"] == "subset")
    return replace(table, rows=tuple(rows))


def save_figure(figure: object, path: Path) -> None:
    """Write a figure as PNG."""
    figure.savefig(path, dpi=150, bbox_inches="tight")


def _say(console: Console, title: str) -> None:
    console.print(f"\n{title}", style="bold cyan", markup=False, highlight=False)
