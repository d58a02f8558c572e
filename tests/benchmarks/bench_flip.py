"""The flip: what a model learns from who lacks a modality, and what is left of it when that habit turns.

In training each positive record loses one modality with probability 0.8. Tested with the same habit,
complete, and with the habit flipped (each negative record loses it). Five folds, two seeds, the tables that
scikit-learn ships; mean AUROC over the ten members, with its interval over patients.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_flip.py [diabetes digits breast-cancer] [--families]
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import mmmed
from mmmed.catalogue import list_components
from mmmed.data.missingness import Mechanism
from mmmed.training.optimisation import Optimisation
from mmmed.training.policy import Policy
from mmmed.training.recipe import Recipe

BLANKED = {"diabetes": "vitals", "breast-cancer": "size", "digits": "upper right"}
EPOCHS = {"diabetes": 40, "breast-cancer": 50, "digits": 25}
BARE = Policy(dropout=0.0, reweight=False)
DROPOUT = Policy(reweight=False)
AIMS = (
    "aims, diabetes: undefended concat <= .35 and multimodn <= .30 when flipped; defended multimodn >= .74 "
    "flipped, >= .80 complete, same - flipped <= .10; digits: defended >= .97 flipped"
)


def recipes(epochs: int, families: bool) -> dict[str, Recipe]:
    """Name -> recipe: two undefended families, modality dropout alone, and the whole policy."""
    plain = Recipe(epochs=epochs, augmentation=None, optimisation=Optimisation(lr=2e-3, weight_decay=0.1))
    result = {
        "concat, undefended": replace(plain, fusion="concat", policy=BARE),
        "multimodn, undefended": replace(plain, policy=BARE),
        "multimodn, dropout only": replace(plain, policy=DROPOUT),
        "multimodn": plain,
        "concat": replace(plain, fusion="concat"),
    }
    if families:
        rest = [name for name in list_components(kind="fusion") if name not in ("multimodn", "concat")]
        result |= {f"{name}, undefended": replace(plain, fusion=name, policy=BARE) for name in rest}
        result |= {name: replace(plain, fusion=name) for name in rest}
    for name in list_components(kind="reference model"):
        words = name.replace("_", " ")
        result[f"{words}, undefended"] = Recipe(fusion=name, policy=BARE)
        result[words] = Recipe(fusion=name)
    return result


def masks(cohort: mmmed.Cohort, modality: str) -> dict[str, Mechanism]:
    """The habit, and the habit flipped."""
    task = next(iter(cohort.schema.tasks))
    habit = {"task": task, "modality": modality, "positive": 0.8, "negative": 0.0}
    return {
        "same": Mechanism("mnar_by_label", habit),
        "complete": Mechanism("natural"),
        "flipped": Mechanism("mnar_by_label", {**habit, "flipped": True}),
    }


def measure(name: str, families: bool, seeds: int, workers: int) -> None:
    cohort = mmmed.load_cohort(name)
    tests = masks(cohort, BLANKED[name])
    start = time.process_time()
    study = mmmed.missingness_study(
        recipes(EPOCHS[name], families),
        cohort,
        train=[tests["same"]],
        test=tests,
        folds=5,
        seeds=seeds,
        workers=workers,
        progress=False,
    )
    print(
        f"\n{name}: {len(cohort)} records, {BLANKED[name]!r} blanked, {time.process_time() - start:.0f} CPU s"
    )
    print(study.side_by_side())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["diabetes", "digits"], choices=list(BLANKED))
    parser.add_argument("--families", action="store_true", help="every family, defended and not")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    print(AIMS)
    for name in options.names:
        measure(name, options.families, options.seeds, options.workers)


if __name__ == "__main__":
    main()
