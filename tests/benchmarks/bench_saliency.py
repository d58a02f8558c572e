"""Do the maps of `mmmed.explain.saliency` show what moved the answer? On synthetic chests, whose lesions are
known to the pixel; every figure with a 95 % interval by patient.

pointing: the maximum of the absolute map lies in a lesion; inside: share that does of what moved the answer
in the direction of the whole picture; letter: the maximum lies on the letter of the site, which is burnt
into the corner and tells nothing about the patient; marked, random: log-odds by which the answer moves when
the marked fifth is blurred, or the same shape elsewhere; holds: share of the maps that beat all random
ones; error: of completeness. Without a network: a pixel drawn from the picture or its lungs, the middle of
a lung, the brightest spot of the lungs. untrained: the same methods on random weights (Adebayo et al.,
arXiv:1810.03292); alike: rank correlation of their absolute maps with those of the trained model.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_saliency.py --model runs/quickstart/model [--records 150]

Without --model one is trained as `mmmed quickstart` does (about 80 s).
"""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch

import mmmed
from mmmed.data.synthetic.picture import bits
from mmmed.evaluation.bootstrap import bootstrap
from mmmed.explain import saliency
from mmmed.explain.attribution_pictures import blur
from mmmed.training.augment import Augmentation

METHODS: dict[str, dict[str, object]] = {
    "occlusion": {"method": "occlusion"},
    "integrated gradients": {"method": "integrated gradients"},
    "the same, not smoothed": {"method": "integrated gradients", "smooth": 0.0},
}
LETTER = (10, 6)  # pixels of the site's letter at 64 px
COLUMNS = ("pointing", "inside", "letter", "marked", "random", "holds", "error", "alike")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--records", type=int, default=150)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cohort = mmmed.load_cohort("synthetic", patients=1200, seed=0)
    model = mmmed.load_model(options.model) if options.model else trained(cohort)
    untrained = mmmed.create_model(model.schema, seed=1).eval()
    test = cohort["test"]
    places = [k for k in range(len(test)) if "image" in test[k].inputs][: options.records]
    groups = test.groups[places]
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seconds: dict[str, list[float]] = defaultdict(list)
    for place in places:
        structures = test.truth.made.render([int(test.rows[place])])[1][0]
        without_network(scores, test[place], structures)
        with_network(scores, seconds, (model, untrained), test[place], structures)
    print(f"{len(places)} records of {len(set(groups))} patients\n")
    print(f"{'':<34}" + "".join(f"{name:<22}" for name in COLUMNS))
    for name, columns in scores.items():
        cells = [said(columns[column], groups) if columns[column] else "" for column in COLUMNS]
        print(f"{name:<34}" + "".join(f"{cell:<22}" for cell in cells).rstrip())
    for name, taken in seconds.items():
        print(f"{name}: {1000 * np.median(taken):.0f} ms of one core per map, with its check")


def trained(cohort: mmmed.Cohort) -> mmmed.models.multimodal.MultimodalModel:
    """The model of `mmmed quickstart`."""
    model = mmmed.create_model(cohort.schema, seed=0)
    mmmed.finetune(model, cohort, epochs=30, augmentation=Augmentation(flip=True), progress=False)
    return model


def without_network(scores: dict, record: mmmed.Record, structures: np.ndarray) -> None:
    """What can be had without asking any model."""
    lesions = lesions_of(structures)
    halves = [bits(structures, f"{side} lung") for side in ("right", "left")]
    lungs = halves[0] | halves[1]
    middles = [tuple(int(axis.mean()) for axis in np.nonzero(half)) for half in halves]
    picture = torch.as_tensor(np.asarray(record.inputs["image"]), dtype=torch.float32)[None, None]
    spots = (blur(picture, 0.04) - blur(picture, 0.15))[0, 0].numpy()
    found = {
        "a random pixel": lesions.mean(),
        "a random pixel of the lungs": lesions[lungs].mean(),
        "the middle of a lung": np.mean([lesions[middle] for middle in middles]),
        "the brightest spot of the lungs": lesions.flat[np.where(lungs, spots, -np.inf).argmax()],
    }
    for name, value in found.items():
        scores[name]["pointing"].append(float(value))
    scores["a random pixel"]["inside"].append(float(lesions.mean()))


def with_network(
    scores: dict, seconds: dict, models: tuple, record: mmmed.Record, structures: np.ndarray
) -> None:
    """Every method on the trained and on the untrained network."""
    model, untrained = models
    for name, how in METHODS.items():
        start = time.process_time()
        found = saliency(model, record, "image", **how)
        seconds[name].append(time.process_time() - start)
        random = saliency(untrained, record, "image", **how)
        judge(scores[name], found, structures)
        judge(scores[f"{name}, untrained"], random, structures)
        scores[f"{name}, untrained"]["alike"].append(alike(found.map, random.map))


def judge(columns: dict[str, list[float]], found: mmmed.explain.Saliency, structures: np.ndarray) -> None:
    lesions, own = lesions_of(structures), (np.sign(found.total) * found.map).clip(0)
    row, column = np.unravel_index(np.abs(found.map).argmax(), found.map.shape)
    check = found.faithfulness
    values = {
        "pointing": lesions[row, column],
        "inside": own[lesions].sum() / max(own.sum(), 1e-12),
        "letter": row < LETTER[0] and column < LETTER[1],
        "marked": check.moved,
        "random": check.random,
        "holds": check.holds,
        "error": abs(found.error),
    }
    for name, value in values.items():
        columns[name].append(float(value))


def lesions_of(structures: np.ndarray) -> np.ndarray:
    return np.any([bits(structures, f"lesion {number}") for number in (1, 2, 3)], axis=0)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    """Rank correlation (Spearman) of two absolute maps."""
    ranks = [np.abs(part).ravel().argsort().argsort() for part in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def said(values: list[float], groups: np.ndarray) -> str:
    mean: Callable[..., float] = lambda labels, kept: float(np.mean(kept))  # noqa: E731
    result = bootstrap(mean, np.zeros(len(values)), values, groups, draws=500)
    return f"{result.value:.2f} [{result.low:.2f}, {result.high:.2f}]"


if __name__ == "__main__":
    main()
