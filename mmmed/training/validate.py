"""How good the model is on the validation records, as they are and with more modalities hidden.

Early stopping looks at the mean of two losses of the final answer: with every record as recorded, and
averaged over a fixed set of masks that modality dropout drew once. Both are weighted like the training
records if the policy weighs them: else an epoch in which the pattern is read as a symptom would look like a
good one. The encoders run once; only the fusion sees each mask.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from mmmed.losses.stepwise import labelled, task_loss
from mmmed.training.chance import stream
from mmmed.training.policy import Policy, drop_modalities
from mmmed.training.supply import Supply
from mmmed.training.weights import CohortWeights
from mmmed.types import Multiclass, Multilabel, Regression, Task

MASKS = 4  # masks per validation record
ROWS = 256  # records of one forward pass


@dataclass(frozen=True)
class Validation:
    """The validation records, the masks they are asked under (the first: as recorded), and their weights."""

    supply: Supply
    tasks: Mapping[str, Task]
    masks: tuple[Tensor, ...]
    weights: tuple[Mapping[str, Tensor], ...]

    @classmethod
    def of(
        cls, supply: Supply, train: Supply, tasks: Mapping[str, Task], policy: Policy, seed: int
    ) -> Validation:
        """Draw the masks once, so that all epochs are compared on the same ones; weigh as `train` asks."""
        generator = stream(seed, "validation masks")
        masks, weights = [supply.present], [cohort_weights(train, tasks, replace(policy, dropout=0.0), seed)]
        if policy.dropout > 0:
            masks += [drop_modalities(supply.present, policy.dropout, generator) for _ in range(MASKS)]
            weights += [cohort_weights(train, tasks, policy, seed)] * MASKS
        weighed = [w(mask, supply.targets, supply.known) for w, mask in zip(weights, masks, strict=True)]
        return cls(supply, tasks, tuple(masks), tuple(weighed))

    def logits(self, model: nn.Module, device: torch.device, rank: int = 0, world: int = 1) -> Tensor:
        """Final answers of all records under all masks, in float32 on `device`. -> [masks records outputs].

        Outputs of all tasks side by side. With several processes each fills in its share and leaves zeros
        elsewhere.
        """
        count = len(self.supply)
        width = sum(task.outputs for task in self.tasks.values())
        result = torch.zeros(len(self.masks), count, width, device=device)
        mine = torch.arange(count).tensor_split(world)[rank]
        chunks = [rows for rows in mine.split(ROWS) if len(rows)]
        training = model.training
        model.eval()
        with torch.inference_mode():
            batches = self.supply.batches((rows, self.masks[0][rows]) for rows in chunks)
            for rows, batch in zip(chunks, batches, strict=True):
                batch = batch.to(device)
                encoded = replace(batch, values=model.encode(batch))
                for index, mask in enumerate(self.masks):
                    outputs = model(encoded.keep(mask[rows].to(device)) if index else encoded)
                    result[index, rows] = torch.cat([outputs[task].float() for task in self.tasks], dim=1)
        model.train(training)
        return result

    def scores(self, logits: Tensor) -> dict[str, float | None]:
        """val_loss (what early stopping looks at), its two halves, and val_auroc as recorded (mean over
        tasks)."""
        logits = logits.cpu()
        parts = logits.split([task.outputs for task in self.tasks.values()], dim=2)
        losses, areas = [], []
        for (name, task), answers in zip(self.tasks.items(), parts, strict=True):
            if self.supply.known[name].any():
                losses.append(
                    [self._loss(name, task, index, answers[index]) for index in range(len(self.masks))]
                )
                areas.append(self._area(name, task, answers[0]))
        if not losses:
            return {"val_loss": None, "val_loss_recorded": None, "val_loss_hidden": None, "val_auroc": None}
        table = torch.tensor(losses, dtype=torch.double).mean(0)  # [masks]
        recorded, hidden = float(table[0]), float(table[1:].mean()) if len(table) > 1 else float(table[0])
        areas = [area for area in areas if area is not None and math.isfinite(area)]
        return {
            "val_loss": (recorded + hidden) / 2,
            "val_loss_recorded": recorded,
            "val_loss_hidden": hidden,
            "val_auroc": sum(areas) / len(areas) if areas else None,
        }

    def _loss(self, name: str, task: Task, index: int, answers: Tensor) -> float:
        target, known = self.supply.targets[name], self.supply.known[name]
        weight = self.weights[index].get(name)
        inner = weight if isinstance(task, Multilabel) else None
        loss = task_loss(task, answers[:, None], target, known, inner)[:, 0]
        if weight is not None and inner is None:
            loss = loss * weight
        return float(loss.double().sum() / labelled(known).sum())

    def _area(self, name: str, task: Task, answers: Tensor) -> float | None:
        from mmmed.evaluation.metrics import auroc
        from mmmed.evaluation.multiclass import macro_auroc

        if isinstance(task, Regression) or not answers.isfinite().all():
            return None
        answers = answers.double()
        labels = self.supply.targets[name].double().where(self.supply.known[name], math.nan).numpy()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a label with one class only has no AUROC, and needs none here
            if isinstance(task, Multiclass):
                return float(macro_auroc(labels, answers.softmax(1).numpy()))
            columns = labels.reshape(len(labels), -1).T
            areas = [
                float(auroc(column, p))
                for column, p in zip(columns, answers.sigmoid().numpy().T, strict=True)
            ]
        areas = [area for area in areas if math.isfinite(area)]
        return sum(areas) / len(areas) if areas else None


def cohort_weights(supply: Supply, tasks: Mapping[str, Task], policy: Policy, seed: int) -> CohortWeights:
    """The weights that the training records ask for."""
    return CohortWeights.of(tasks, supply.present, supply.targets, supply.known, policy, seed)
