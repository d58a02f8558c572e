"""Reference models without a network: what every network must be read against, behind the same verbs.

Logistic (or ridge) regression with mean imputation, and gradient boosting that takes gaps as they are. They
read each modality as a few plain numbers (`mmmed.data.features`). On small tables they beat many networks,
and the first was the most robust of all undefended models when a missingness pattern flips.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import plain
from mmmed.data.features import Block, blocks_of, cells_of, to_numbers
from mmmed.models.calibration import log_odds
from mmmed.types import Binary, Multiclass, Multilabel, Record, Regression, Schema, Tabular, Task

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

Ask = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Numbers:
    """The records of a cohort as a reference model reads them: what `Encoded` is to a network.

    values[modality] [records numbers]; present [records modality] bool.
    """

    modalities: tuple[str, ...]
    values: Mapping[str, np.ndarray]
    present: np.ndarray
    ids: np.ndarray
    groups: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)


class ReferenceModel:
    """What both share: reading, one fit per task (per label, for a multilabel task), and answering.

        model = mmmed.create_model(cohort.schema, fusion="gradient_boosting")
        mmmed.finetune(model, cohort)
        mmmed.missingness_benchmark(model, cohort["test"])

    schema: how records are read, and what is asked. Refitted in seconds, so there is nothing to save.
    """

    name = ""
    native_gaps = False  # whether a fit takes NaN

    def __init__(self, schema: Schema):
        self.schema = schema
        self.calibration: dict[str, Any] = {}
        self.conformal: dict[str, Any] = {}
        self.thresholds: dict[str, float] = {}
        self.card: dict[str, Any] = {}
        self._train: dict[str, Block] = {}
        self._fits: dict[str, list[Any]] = {}

    @classmethod
    def from_schema(cls, schema: Schema) -> ReferenceModel:
        """A model that was not fitted yet."""
        return cls(schema)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the inputs."""
        return tuple(self.schema.modalities)

    @property
    def parameters_count(self) -> int:
        """Numbers that were learned: coefficients, or leaves of trees."""
        return sum(_size(fit) for fits in self._fits.values() for fit in fits)

    # ------------------------------------------------------------------------------------------- fitting

    def fit(
        self,
        cohort: Cohort,
        masks: Sequence[np.ndarray] | None = None,
        weights: Sequence[Mapping[str, np.ndarray]] | None = None,
        seed: int = 0,
    ) -> ReferenceModel:
        """Learn from all records of a cohort.

        masks: several copies of the records, each with what it keeps [records modality]; None = as recorded.
        weights: per copy, task -> [records], or [records labels] for a multilabel task. -> the same model.
        """
        cohort = cohort.with_schema(self.schema)
        self._train = blocks_of(cohort)
        present = np.asarray(cohort.present)
        masks = [present] if masks is None else [present & np.asarray(mask, dtype=bool) for mask in masks]
        numbers = self._numbers(self._train)
        rows = np.concatenate([self._design(numbers, mask) for mask in masks])
        for name, task in self.schema.tasks.items():
            values, known = (np.asarray(part) for part in cohort.targets(name))
            columns = values.reshape(len(values), -1).T
            here = known.reshape(len(values), -1).T
            fits = []
            for k, (column, good) in enumerate(zip(columns, here, strict=True)):
                weight = [_weight(part.get(name), k, len(values)) for part in weights or [{}] * len(masks)]
                times = np.tile(good, len(masks))
                targets = np.tile(column, len(masks))[times]
                heavy = np.concatenate(weight)[times] / len(masks)  # copies are no further records
                fits.append(_fit(self._maker(task, seed, len(masks)), rows[times], targets, heavy))
            self._fits[name] = fits
        return self

    def _maker(self, task: Task, seed: int, copies: int) -> Any:
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------- answering

    def asker(self, cohort: Cohort) -> Ask:
        """Read a cohort once. -> function from stays [records modality] bool to {task: probabilities [records
        outputs]}, calibrated."""
        from mmmed.models.inference import predict_encoded

        numbers = self.read(cohort)
        return lambda stays: predict_encoded(self, numbers, stays)

    def __call__(self, cohort: Cohort) -> dict[str, np.ndarray]:
        """Probabilities of every record: task -> [records outputs]."""
        return self.asker(cohort)(np.asarray(cohort.present))

    def read(self, cohort: Cohort) -> Numbers:
        """Every record as plain numbers, once, to be asked about under many patterns."""
        if not self._fits:
            raise ValueError(f"This {self.name} was not fitted yet: mmmed.finetune(model, cohort).")
        cohort = cohort.with_schema(self.schema)
        numbers = self._numbers(blocks_of(cohort))
        return Numbers(self.modalities, numbers, np.array(cohort.present), cohort.ids, cohort.groups)

    def logits(self, numbers: Numbers, stays: np.ndarray) -> dict[str, np.ndarray]:
        """Before calibration: log-odds, log-probabilities or standardised numbers, task -> [records
        outputs]."""
        return self._logits(self._design(numbers.values, stays))

    def subset_logits(self, record: Record, subsets: Sequence[Sequence[str]]) -> dict[str, np.ndarray]:
        """One record, seen through each subset of its modalities: task -> [subsets outputs]."""
        from mmmed.data.cohort import Cohort

        one = Cohort.from_records([record], schema=self.schema)
        numbers = self.read(one).values
        repeated = {name: np.repeat(values, len(subsets), axis=0) for name, values in numbers.items()}
        stays = np.array([[name in subset for name in self.modalities] for subset in subsets])
        return self._logits(self._design(repeated, stays & np.asarray(one.present)))

    def save_pretrained(self, folder: Any) -> None:
        """Not offered: it would have to be unpickled, and refitting takes seconds. Raises ValueError."""
        raise ValueError(
            f"A {self.name} is not saved ({plain(str(folder))}): reading it back would mean unpickling. Fit "
            "it again, or keep its answers: model(cohort)."
        )

    # -------------------------------------------------------------------------------------- inner workings

    def _numbers(self, blocks: Mapping[str, Block]) -> dict[str, np.ndarray]:
        """Modality -> [records numbers], by what the training records taught."""
        result = {}
        for name, block in blocks.items():
            gaps = self.native_gaps and isinstance(self.schema.modalities[name], Tabular)
            result[name] = cells_of(block) if gaps else to_numbers(self._train[name], block)[1]
        return result

    def _design(self, numbers: Mapping[str, np.ndarray], stays: np.ndarray) -> np.ndarray:
        """One row per record; what is hidden is NaN, or the mean of the training records, which is 0."""
        blank = np.nan if self.native_gaps else 0.0
        parts = [
            np.where(stays[:, k, None], numbers[name], blank) for k, name in enumerate(self.schema.modalities)
        ]
        return np.concatenate(parts, axis=1)

    def _logits(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {
            name: np.concatenate([_ask(task, fit, rows) for fit in self._fits[name]], axis=1)
            for name, task in self.schema.tasks.items()
        }


class LogisticReference(ReferenceModel):
    """Logistic regression (ridge for a number) with mean imputation, penalty C = 0.3 on standardised numbers.

    Source: Cox 1958, doi:10.1111/j.2517-6161.1958.tb00292.x; Hoerl and Kennard 1970 for the penalty.
    """

    name = "logistic regression"

    def _maker(self, task: Task, seed: int, copies: int) -> Any:
        from sklearn.linear_model import LogisticRegression, Ridge

        return Ridge(alpha=10.0) if isinstance(task, Regression) else LogisticRegression(C=0.3, max_iter=1000)


class BoostingReference(ReferenceModel):
    """Gradient boosting of small trees in which a gap goes down the better branch.

    100 rounds, rate 0.1, at most 8 leaves of at least 10 records. A gap can be read as a symptom here:
    without the policy this model fails like any other when the pattern flips. Source: Friedman 2001,
    doi:10.1214/aos/1013203451; gaps as in Chen and Guestrin, arXiv:1603.02754, sec. 3.4.
    """

    name = "gradient boosting"
    native_gaps = True

    def _maker(self, task: Task, seed: int, copies: int) -> Any:
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        settings = {
            "max_iter": 100,
            "learning_rate": 0.1,
            "max_leaf_nodes": 8,
            "min_samples_leaf": 10 * copies,
        }
        kind = (
            HistGradientBoostingRegressor if isinstance(task, Regression) else HistGradientBoostingClassifier
        )
        return kind(**settings, early_stopping=False, random_state=seed)


def _weight(weight: np.ndarray | None, column: int, count: int) -> np.ndarray:
    if weight is None:
        return np.ones(count)
    return np.asarray(weight, dtype=float).reshape(count, -1)[:, column]


def _fit(model: Any, rows: np.ndarray, targets: np.ndarray, weights: np.ndarray) -> Any:
    """A fitted model, or the one class (the mean) that is known; None if nothing is."""
    kept = weights > 0
    rows, targets, weights = rows[kept], targets[kept], weights[kept]
    if not len(targets):
        return None
    if len(np.unique(targets)) < 2 or not rows.shape[1]:
        return float(targets.mean())
    return model.fit(rows, targets, sample_weight=weights)


def _ask(task: Task, fit: Any, rows: np.ndarray) -> np.ndarray:
    """One fit -> [records 1], or [records classes] for a multiclass task."""
    count = len(rows)
    if isinstance(task, Regression):
        value = task.mean if fit is None else fit if isinstance(fit, float) else None
        values = np.full(count, value) if value is not None else fit.predict(rows)
        return ((values - task.mean) / task.scale)[:, None]
    classes = task.outputs if isinstance(task, Multiclass) else 2
    chances = np.full((count, classes), 1e-7)
    if fit is None:
        chances[:] = 1 / classes
    elif isinstance(fit, float):
        chances[:, int(fit)] = 1 - 1e-7
    elif count:
        chances[:, fit.classes_.astype(int)] = fit.predict_proba(rows)
    if isinstance(task, (Binary, Multilabel)):
        return log_odds(chances[:, 1:])
    return np.log(np.clip(chances, 1e-7, 1.0))


def _size(fit: Any) -> int:
    if hasattr(fit, "coef_"):
        return int(np.size(fit.coef_) + np.size(fit.intercept_))
    if hasattr(fit, "_predictors"):
        return sum(int(tree.nodes["is_leaf"].sum()) for stage in fit._predictors for tree in stage)
    return 1
