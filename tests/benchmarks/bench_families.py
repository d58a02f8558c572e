"""Every fusion family on the synthetic cohort with 30 % of the modalities missing at random, against the best
possible for each subset, with the reference models beside them.

2,000 training records, holes in training and validation, the default policy; 2,000 test records seen through
each subset of image, table and text. Share of the way = (AUROC - 0.5) / (best possible - 0.5). --concepts
makes the six hidden factors further tasks, as descriptors could be. The last column is the difference to
the better reference model on the holed test records, with its interval over the same patients.

    OMP_NUM_THREADS=1 python tests/benchmarks/bench_families.py [--concepts] [--epochs 20] [names ...]
"""

from __future__ import annotations

import argparse
import time
from itertools import combinations

import numpy as np

import mmmed
from mmmed.catalogue import list_components
from mmmed.data.missingness import mcar
from mmmed.evaluation.bootstrap import difference
from mmmed.evaluation.metrics import auroc
from mmmed.models.inference import encode_cohort, predict_encoded
from mmmed.training.augment import Augmentation

TRAIN, VALIDATION, TEST, MISSING = 2000, 400, 2000, 0.3
REFERENCES = list_components(kind="reference model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    families = [*REFERENCES, *list_components(kind="fusion")]
    parser.add_argument("names", nargs="*", default=families)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--concepts", action="store_true")
    options = parser.parse_args()
    total = TRAIN + VALIDATION + TEST
    shares = (TRAIN / total, VALIDATION / total, TEST / total)
    made = {"patients": total, "seed": 0, "split": shares, "concepts": options.concepts}
    cohort = mmmed.load_cohort("synthetic", **made)
    learning = cohort.splits != "test"
    stays = np.where(learning[:, None], mcar(cohort, MISSING, seed=1), np.array(cohort.present))
    holed, test = cohort.keep(stays), cohort["test"]
    names = tuple(cohort.schema.modalities)
    subsets = [part for size in range(1, len(names) + 1) for part in combinations(names, size)]
    masks = {" + ".join(part): np.array([[n in part for n in names]] * len(test)) for part in subsets}
    masks["30 % missing"] = mcar(test, MISSING, seed=2)
    labels = test.targets("diagnosis")[0]
    best = {word: auroc(labels, test.truth.posterior(mask)["diagnosis"]) for word, mask in masks.items()}
    print(f"{'':<22}" + "".join(f"{word.replace(' + ', '+'):>18}" for word in masks))
    print(f"{'best possible':<22}" + "".join(f"{value:>18.3f}" for value in best.values()))
    reference: tuple[float, np.ndarray] | None = None
    for name in options.names:
        start = time.process_time()
        model = mmmed.create_model(holed.schema, fusion=name)
        flips = Augmentation(flip=True)  # the label knows no side
        mmmed.finetune(model, holed, epochs=options.epochs, augmentation=flips, progress=False)
        encoded, cells, said = encode_cohort(model, test), [], None
        for word, mask in masks.items():
            said = predict_encoded(model, encoded, mask)["diagnosis"][:, 0]
            score = auroc(labels, said)
            cells.append(f"{score:.3f} ({100 * (score - 0.5) / (best[word] - 0.5):.0f} %)")
        if name in REFERENCES and (reference is None or auroc(labels, said) > reference[0]):
            reference = auroc(labels, said), said
        gap = ""
        if reference is not None and name not in REFERENCES:
            gap = difference(auroc, labels, said, reference[1], test.groups, draws=500)
        spent = time.process_time() - start
        print(
            f"{name:<22}" + "".join(f"{cell:>18}" for cell in cells) + f"   {gap}  {spent:.0f} s", flush=True
        )


if __name__ == "__main__":
    main()
