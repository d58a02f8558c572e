"""Training a reference model: the same policy as a network, as copies of the records and weights."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import torch

from mmmed.data.collate import read_targets
from mmmed.models.inference import calibrate
from mmmed.models.reference import ReferenceModel
from mmmed.training.chance import stream, stream_seed
from mmmed.training.plan import check_learnable
from mmmed.training.policy import Policy, drop_modalities
from mmmed.training.run import Run
from mmmed.training.weights import CohortWeights

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

COPIES = 5  # of each record, with modality dropout drawn anew: what epochs are to a network


def fit_reference(model: ReferenceModel, cohort: Cohort, policy: Policy, seed: int) -> Run:
    """Fit on cohort["train"], calibrate on cohort["val"]; the model is changed in place."""
    started = time.perf_counter()
    train, tasks = cohort["train"].with_schema(model.schema), model.schema.tasks
    if not len(train):
        raise ValueError(
            "The cohort has no training records. Split it: cohort.split(), or name its split column."
        )
    present = torch.from_numpy(np.array(train.present))
    records = list(train)
    pairs = {name: read_targets(name, task, records) for name, task in tasks.items()}
    targets, known = ({name: pair[k] for name, pair in pairs.items()} for k in (0, 1))
    check_learnable(model.modalities, present, known)
    weights = CohortWeights.of(tasks, present, targets, known, policy, seed)
    weights.warn(known)
    masks = [present]
    if policy.dropout > 0:
        masks = [
            drop_modalities(present, policy.dropout, stream(seed, "modality dropout", copy))
            for copy in range(COPIES)
        ]
    drawn = [{name: w.numpy() for name, w in weights(mask, targets, known).items()} for mask in masks]
    model.fit(train, [mask.numpy() for mask in masks], drawn, stream_seed(seed, "reference") % 2**31)
    facts = {"modality dropout": policy.dropout, "missingness": policy.missingness}
    model.card = {"patterns": np.unique(present.numpy(), axis=0).tolist(), "training": facts}
    model.calibration, model.conformal, model.thresholds = {}, {}, {}
    if len(cohort["val"]):
        calibrate(model, cohort["val"], patterns=policy.weighs)
    line = {"epoch": 1, "lr": None, "seconds": time.perf_counter() - started, "ess": None}
    line |= dict.fromkeys(("train_loss", "val_loss", "val_loss_recorded", "val_loss_hidden", "val_auroc"))
    return Run([line], 1, None, weights.effective, {"train": len(train), "val": len(cohort["val"])})
