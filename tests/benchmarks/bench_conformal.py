"""Calibration and prediction sets per pattern of presence, on a synthetic cohort whose exact answer is known.

30 % of all modalities are missing completely at random. A model is trained for a few epochs on some of the
patients; the others are split at random, again and again, into a half that calibrates and a half that tests.
The encoders and the fusion run once. A test record counts for every pattern it can be reduced to. Printed:

1. how often the 90 % sets hold the truth: mean and standard deviation over the splits, and the mean set size;
2. the mean distance of the probabilities to the exact posterior of what is seen, and to its mean over records
   with about the same output of the model (20 bins): what is left when only the scale is wrong;
3. the former distance for few calibration records and several weights of the pull towards the general fit.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_conformal.py [name of a fusion ...]
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np

import mmmed
from mmmed.data.collate import read_targets
from mmmed.models import calibration
from mmmed.models.calibration import fit_calibration, probabilities
from mmmed.models.calibration_fits import fit_outputs
from mmmed.models.conformal import ENOUGH, SET_LEVEL, fit_conformal, prediction_set
from mmmed.models.inference import encode_cohort, logits_encoded, reduced_logits

PATIENTS, EPOCHS, SPLITS, MISSING, TASK = 1400, 30, 100, 0.3, "diagnosis"
SIZES, WEIGHTS, FEW_SPLITS = (30, 60, 120, 350), (0, 4, 16, 32, 64, 256, np.inf), 30


class Held:
    """Records that the model has not seen: logits as they came and reduced to each pattern, labels, truth."""

    def __init__(self, fusion: str):
        cohort = mmmed.load_cohort("synthetic", patients=PATIENTS, seed=0, size=32, split=(0.4, 0.1, 0.5))
        stays = np.random.default_rng(0).random((len(cohort), 3)) >= MISSING
        cohort = cohort.keep(stays).refit()
        model = mmmed.create_model(cohort.schema, fusion=fusion, dim=32, state_dim=32, seed=0)
        mmmed.finetune(model, cohort, epochs=EPOCHS, progress=False, seed=0)
        test = cohort["test"]
        encoded = encode_cohort(model, test)
        self.task, self.modalities, self.present = (
            cohort.schema.tasks[TASK],
            model.modalities,
            encoded.present,
        )
        self.logits = logits_encoded(model, encoded)[TASK]
        self.reduced = {p: (rows, part[TASK]) for p, (rows, part) in reduced_logits(model, encoded).items()}
        self.targets, self.known = (part.numpy() for part in read_targets(TASK, self.task, list(test)))
        self.exact = {
            pattern: test.truth.posterior(np.tile(pattern, (len(test), 1)))[TASK][rows]
            for pattern, (rows, _) in self.reduced.items()
        }

    def part(self, chosen: np.ndarray) -> tuple:
        """Arguments of the fits for some records [chosen], rows counted anew."""
        place = np.full(len(self.logits), -1)
        place[chosen] = np.arange(len(chosen))
        reduced = {}
        for pattern, (rows, logits) in self.reduced.items():
            inside = place[rows] >= 0
            if inside.any():
                reduced[pattern] = place[rows][inside], logits[inside]
        labels = self.targets[chosen], self.known[chosen]
        return self.task, self.logits[chosen], *labels, np.arange(len(chosen)), 0, reduced

    def name(self, pattern: tuple[bool, ...]) -> str:
        return " + ".join(n for n, here in zip(self.modalities, pattern, strict=True) if here) or "nothing"


def halves(held: Held, seed: int, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Records that calibrate, and those that test (a record is a patient here)."""
    order = np.random.default_rng(seed).permutation(len(held.logits))
    half = len(order) // 2
    return order[: size or half], order[half:]


def scale_of(held: Held, pattern: tuple[bool, ...], bins: int = 20) -> np.ndarray:
    """The mean exact posterior of the records with about the same output, for each record of a pattern."""
    logits, exact = held.reduced[pattern][1][:, 0], held.exact[pattern]
    edges = np.quantile(logits, np.linspace(0, 1, bins + 1)[1:-1])
    inside = np.searchsorted(np.round(edges, 5), np.round(logits, 5))
    return (np.bincount(inside, exact) / np.maximum(np.bincount(inside), 1))[inside]


def coverage_and_distance(held: Held) -> None:
    found = {pattern: [] for pattern in held.reduced}
    for seed in range(SPLITS):
        chosen, test = halves(held, seed)
        arguments = held.part(chosen)
        sets, fitted = fit_conformal(*arguments), fit_calibration(*arguments)
        for pattern, (rows, logits) in held.reduced.items():
            inside = np.isin(rows, test)
            x, here = logits[inside], np.array(pattern)
            allowed = prediction_set(held.task, x, sets, np.tile(here, (len(x), 1)))
            truth = held.targets[rows[inside]].astype(int)
            covered = np.take_along_axis(allowed, truth[:, None], 1).mean()
            distances = []
            for fit, shown in ((None, None), (fitted, None), (fitted, here)):
                said = probabilities(held.task, x, fit, shown)[:, 0]
                for aim in (held.exact[pattern], scale_of(held, pattern)):
                    distances.append(np.abs(said - aim[inside]).mean())
            found[pattern].append([sets.records(pattern), covered, allowed.sum(1).mean(), *distances])
    print_patterns(held, found)


def print_patterns(held: Held, found: dict[tuple[bool, ...], list[list[float]]]) -> None:
    print(f"\n{SPLITS} splits of {len(held.logits)}; sets at {SET_LEVEL:.0%}; distance to posterior/scale")
    heads = "".join(f"{head:>14}" for head in ("as is", "general", "by pattern"))
    print(f"{'pattern':22}{'n':>4} nominal   held    sd  size{heads}")
    off = []
    for pattern, values in found.items():
        n, covered, size, *distances = np.mean(values, axis=0)
        pairs = zip(distances[::2], distances[1::2], strict=True)
        said = "".join(f"   {posterior:.3f}/{scale:.3f}" for posterior, scale in pairs)
        sd = np.std(values, axis=0)[1]
        print(f"{held.name(pattern):22}{n:4.0f}   {SET_LEVEL:.3f}  {covered:.3f} {sd:.3f}  {size:.2f} {said}")
        if n >= ENOUGH and any(pattern):
            off.append(abs(covered - SET_LEVEL))
    print(f"largest distance from nominal, at least {ENOUGH} records: {max(off):.3f} (required: 0.02)")
    print("with nothing there is one answer for all, so a set that holds 90 % must hold both levels")


def weights_of_the_pull(held: Held) -> None:
    """Distance to the posterior, mean over patterns and splits, by size and weight of the general fit."""
    print(f"\nmean distance to the posterior over all patterns; {FEW_SPLITS} splits; pull in patients")
    print(f"{'records':>8} " + " ".join(f"{weight:>7}" for weight in WEIGHTS))
    for size in SIZES:
        means = {weight: [] for weight in WEIGHTS}
        for seed in range(FEW_SPLITS):
            chosen, test = halves(held, seed, size)
            task, logits, targets, known, _, _, reduced = held.part(chosen)
            centre = fit_outputs(task, logits, targets, known, np.ones((1, len(chosen))))
            for weight in WEIGHTS:
                patients = min(max(weight, 0.01), 1e9)
                for pattern, (rows, part) in reduced.items():
                    ones = np.ones((1, len(rows)))
                    own = targets[rows], known[rows], ones
                    slopes, shifts = fit_outputs(task, part, *own, centre, patients)
                    inside = np.isin(held.reduced[pattern][0], test)
                    said = 1 / (1 + np.exp(-(held.reduced[pattern][1][inside, 0] * slopes[0] + shifts[0])))
                    means[weight].append(np.abs(said - held.exact[pattern][inside]).mean())
        print(f"{size:8d} " + " ".join(f"{np.mean(means[weight]):7.4f}" for weight in WEIGHTS))


def main() -> None:
    draws = calibration.DRAWS
    for fusion in sys.argv[1:] or ("multimodn", "late"):
        start = time.process_time()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held = Held(fusion)
        print(f"\n=== {fusion}: trained and encoded in {time.process_time() - start:.0f} CPU s")
        chosen, _ = halves(held, 0)
        one = time.process_time()
        fit_calibration(*held.part(chosen))
        seconds = time.process_time() - one
        print(f"one calibration of {len(chosen)} records, all patterns, {draws} draws: {seconds:.2f} CPU s")
        calibration.DRAWS = 1  # no interval is asked for below
        coverage_and_distance(held)
        weights_of_the_pull(held)
        calibration.DRAWS = draws
        print(f"{time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main()
