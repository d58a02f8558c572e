"""Dumb baselines that every model must be read against: presence alone, one modality, one column, a device, a
neighbour.

All are fitted on the training cohort and answer for the test cohort, with scikit-learn only and no learned
encoder (see `features` for the numbers they read). What is missing is filled in without an indicator, except
in `presence_only`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from mmmed.checks import check_known
from mmmed.data.features import Block, block_of_cells, blocks_of, presence, to_numbers
from mmmed.evaluation.bootstrap import estimates
from mmmed.evaluation.evaluate import headed
from mmmed.evaluation.folds import out_of_fold_auroc
from mmmed.evaluation.scores import Table
from mmmed.evaluation.tasks import kind_of, labels_of, metrics_for
from mmmed.types import Image, Record, Tabular

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

PENALTY = 0.3  # C of the logistic regression on standardised numbers


def logistic(train: Cohort, test: Cohort, task: str) -> np.ndarray:
    """Balanced logistic regression (ridge for a regression) on simple numbers of all modalities.

    -> probabilities for the rows of `test`: [rows], or [rows classes] or [rows labels]; a regression in its
    unit.
    """
    return _Parts(train, test, task).fit(list(train.schema.modalities))


def single_modality(train: Cohort, test: Cohort, task: str, name: str) -> np.ndarray:
    """`logistic` with one modality and nothing else."""
    check_known(name, train.schema.modalities, what="modality")
    return _Parts(train, test, task).fit([name])


def presence_only(train: Cohort, test: Cohort, task: str, level: str = "columns") -> np.ndarray:
    """What can be said from what was recorded, without reading any value. level: "columns" or
    "modalities".
    """
    return _Parts(train, test, task).fit_presence(level)


def best_single_column(train: Cohort, test: Cohort, task: str) -> tuple[np.ndarray, str]:
    """The one table column that ranks best in training (out of fold), and what it says about `test`.

    -> probabilities and the name of the column. Raises ValueError if the cohort has no table.
    """
    return _Parts(train, test, task).fit_best_column()


def nearest_neighbour(train: Cohort, test: Cohort, task: str, neighbours: int = 5) -> np.ndarray:
    """Share of positives among the nearest training records, by the simple numbers of all modalities."""
    return _Parts(train, test, task).fit_neighbours(neighbours)


def confounders_only(train: Cohort, test: Cohort, task: str) -> np.ndarray:
    """What device, site and other columns declared as confounders say. Raises ValueError if none is
    declared.
    """
    return _Parts(train, test, task).fit_cells(confounder_columns(train))


def confounder_columns(cohort: Cohort) -> tuple[str, ...]:
    """Columns whose role says that they go with the label without belonging to the patient."""
    inputs = set(cohort.schema.columns)
    return tuple(name for name, role in cohort.roles.items() if "confounder" in role and name not in inputs)


def with_black_images(cohort: Cohort, only_absent: bool = True) -> Cohort:
    """The same cohort with a black picture in the place of every absent image (or of every image).

    What most packages do with an absent picture; as a baseline for a model that skips it. only_absent=False:
    nobody has a picture, which shows what the model owes to pictures at all. All pictures are read into
    memory, in the size of the schema.
    """
    images = {
        name: modality for name, modality in cohort.schema.modalities.items() if isinstance(modality, Image)
    }
    if not images:
        raise ValueError("This cohort has no image modality, so there is nothing to make black.")
    records = []
    for record in cohort:
        for name, modality in images.items():
            black = np.zeros((modality.channels, *modality.size), dtype=np.float32)
            keep = only_absent and name in record.inputs
            record = record.with_input(name, _pictures(record, name, modality) if keep else black)
        records.append(record)
    filled = type(cohort).from_records(records, schema=cohort.schema)
    schema = replace(cohort.schema, id=filled.schema.id, group=filled.schema.group)
    parts = np.array([("train", "val", "test").index(split) for split in cohort.splits], dtype=np.int8)
    return type(cohort)(filled.source, schema, parts, split_origin=cohort.split_origin)


def _pictures(record: Record, name: str, modality: Image) -> list[np.ndarray]:
    """The views of a record, read and in the size of the schema: each [channels height width] in 0..1."""
    from mmmed.data.readers import read_image

    value = record.inputs[name]
    views = value if isinstance(value, (list, tuple)) else [value]
    where = f'record "{record.id}", column "{modality.column}"'
    return [
        read_image(view, channels=modality.channels, size=modality.size, folder=record.folder, where=where)
        for view in views
    ]


def baselines(train: Cohort, test: Cohort, task: str, draws: int = 1000, seed: int = 0) -> Table:
    """One row per baseline, with the scores of the task's kind and intervals by patient.

    Patients of `train` and `test` must differ (ValueError). Rows: presence of modalities and of columns,
    confounders where the roles name any, each modality alone, the best single column, nearest neighbours, and
    all inputs.
    """
    both = set(np.unique(train.groups)) & set(np.unique(test.groups))
    if both:
        raise ValueError(
            f"{len(both)} patients are in both parts, such as {sorted(both)[0]!r}. Split by patient first."
        )
    parts, kind = _Parts(train, test, task), kind_of(train, task)
    labels = labels_of(test, task)
    rows = []
    for name, answer in parts.all():
        scores = estimates(metrics_for(kind), labels, answer, test.groups, draws, seed)
        some = next(iter(scores.values()))
        note = "; ".join(dict.fromkeys(score.note for score in scores.values() if score.note))
        rows.append({"inputs": name, "n": some.n, "patients": some.groups, **scores, "note": note})
    table = headed(rows, f"Baselines for {task}")
    return replace(
        table, notes=(*table.notes, "No baseline but presence is told what is missing; threshold 0.5.")
    )


@dataclass(frozen=True)
class _Parts:
    """Both cohorts as simple numbers; each is read once, when it is first asked for."""

    train: Cohort
    test: Cohort
    task: str

    @cached_property
    def _blocks(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        left, right = self._raw
        return {name: to_numbers(left[name], right[name]) for name in left}

    @cached_property
    def _raw(self) -> tuple[dict[str, Block], dict[str, Block]]:
        return blocks_of(self.train), blocks_of(self.test.with_schema(self.train.schema))

    @cached_property
    def kind(self) -> str:
        return kind_of(self.train, self.task)

    @cached_property
    def labels(self) -> np.ndarray:
        return labels_of(self.train, self.task)

    @property
    def classes(self) -> int:
        return self.train.schema.tasks[self.task].outputs

    def all(self) -> list[tuple[str, np.ndarray]]:
        """Every baseline that this cohort allows, from the dumbest on."""
        modalities = self.train.schema.modalities
        rows = [
            (f"presence of {level} only", self.fit_presence(level)) for level in ("modalities", "columns")
        ]
        confounders = confounder_columns(self.train)
        if confounders:
            rows.append((f"confounders only ({', '.join(confounders)})", self.fit_cells(confounders)))
        rows += [(f"{name} only", self.fit([name])) for name in modalities]
        if any(isinstance(modality, Tabular) for modality in modalities.values()):
            answer, column = self.fit_best_column()
            rows.append((f"best column only ({column})", answer))
        return [
            *rows,
            ("nearest neighbours", self.fit_neighbours()),
            ("all inputs", self.fit(list(modalities))),
        ]

    def fit(self, names: Sequence[str]) -> np.ndarray:
        return self._linear(*self._joined(names))

    def fit_presence(self, level: str) -> np.ndarray:
        check_known(level, ("columns", "modalities"), what="level of presence")
        return self._linear(presence(self.train, level)[0] - 0.5, presence(self.test, level)[0] - 0.5)

    def fit_cells(self, columns: Sequence[str]) -> np.ndarray:
        """Any raw columns, inputs or not."""
        if not columns:
            raise ValueError('No column has a role with "confounder". Declare it: cohort.roles[column].')
        count, pairs = len(self.train), []
        for name in columns:
            block = block_of_cells([*self.train.column(name), *self.test.column(name)], name)
            pairs.append(to_numbers(block.rows(slice(0, count)), block.rows(slice(count, None))))
        left, right = zip(*pairs, strict=True)
        return self._linear(np.concatenate(left, axis=1), np.concatenate(right, axis=1))

    def fit_best_column(self) -> tuple[np.ndarray, str]:
        tables = [n for n, m in self.train.schema.modalities.items() if isinstance(m, Tabular)]
        if not tables:
            raise ValueError("This cohort has no table, so there is no single column.")
        best: tuple[float, Block, Block] | None = None
        for table in tables:
            for k in range(len(self._raw[0][table].names)):
                left, right = self._raw[0][table].only(k), self._raw[1][table].only(k)
                merit = self._merit(left)
                if best is None or merit > best[0]:
                    best = (merit, left, right)
        _, left, right = best
        return self._linear(*to_numbers(left, right)), left.names[0]

    def fit_neighbours(self, neighbours: int = 5) -> np.ndarray:
        from sklearn.neighbors import NearestNeighbors

        x, z = self._joined(list(self.train.schema.modalities))
        labels = self.labels if self.labels.ndim == 2 else self.labels[:, None]
        columns = []
        for y in labels.T:
            known = ~np.isnan(y)
            if not known.any() or not len(z) or not x.shape[1]:
                columns.append(_constant(y, self.kind, self.classes, len(z)))
                continue
            count = min(neighbours, int(known.sum()))
            nearest = NearestNeighbors(n_neighbors=count).fit(x[known]).kneighbors(z, return_distance=False)
            columns.append(_vote(y[known], y[known][nearest], self.kind, self.classes))
        return np.stack(columns, axis=1) if self.kind == "multilabel" else columns[0]

    def _joined(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        left, right = zip(*(self._blocks[name] for name in names), strict=True)
        return np.concatenate(left, axis=1), np.concatenate(right, axis=1)

    def _linear(self, x: np.ndarray, z: np.ndarray) -> np.ndarray:
        if self.kind == "multilabel":
            answers = [linear(x, y, z, "binary", 2) for y in self.labels.T]
            return np.stack(answers, axis=1)
        return linear(x, self.labels, z, self.kind, self.classes)

    def _merit(self, block: Block) -> float:
        """How well one column ranks the training patients it was not fitted on; minus 1 where it cannot be
        said.
        """
        merits = []
        for y in self._yes_no():

            def fit(train: np.ndarray, test: np.ndarray, y: np.ndarray = y) -> np.ndarray:
                return linear(*_with_labels(block, y, train, test), "binary", 2, prior=False)

            score = out_of_fold_auroc(fit, y, self.train.groups, draws=1)
            if score is not None:
                merits.append(score.value)
        return float(np.mean(merits)) if merits else -1.0

    def _yes_no(self) -> list[np.ndarray]:
        """The training labels as yes-or-no questions."""
        y = self.labels
        if self.kind == "multilabel":
            return list(y.T)
        if self.kind == "multiclass":
            return [np.where(np.isnan(y), np.nan, y == k) for k in range(self.classes)]
        return [y if self.kind == "binary" else np.where(np.isnan(y), np.nan, y > np.nanmedian(y))]


def linear(
    x: np.ndarray, y: np.ndarray, z: np.ndarray, kind: str = "binary", classes: int = 2, prior: bool = True
) -> np.ndarray:
    """Fit on x [rows numbers], y [rows] (NaN = unknown, left out), answer for z: probabilities or numbers.

    Classes are balanced while fitting. prior: turn the answers back to the shares of y, so that they are
    calibrated; without it a fit that found nothing says the same in every fold, and pooled folds do not rank
    by their prevalence.
    """
    known = ~np.isnan(y)
    levels = np.unique(y[known])
    if len(levels) < 2 or not x.shape[1] or not len(z):
        return _constant(y, kind, classes, len(z), prior)
    if kind == "regression":
        from sklearn.linear_model import RidgeCV

        return RidgeCV(np.logspace(-1, 4, 11)).fit(x[known], y[known]).predict(z)
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=PENALTY, class_weight="balanced", max_iter=1000).fit(x[known], y[known])
    answer = fitted.predict_proba(z)
    if prior:
        answer = answer * np.array([(y[known] == level).mean() for level in fitted.classes_])
        answer = answer / answer.sum(axis=1, keepdims=True)
    if kind == "binary":
        return answer[:, 1]
    every = np.zeros((len(z), classes))
    every[:, fitted.classes_.astype(int)] = answer
    return every


def _with_labels(block: Block, y: np.ndarray, train: np.ndarray, test: np.ndarray) -> tuple[np.ndarray, ...]:
    x, z = to_numbers(block.rows(train), block.rows(test))
    return x, y[train], z


def _constant(y: np.ndarray, kind: str, classes: int, rows: int, prior: bool = True) -> np.ndarray:
    """The answer of a fit that knows nothing: the shares (or the mean) of the known labels."""
    known = y[~np.isnan(y)]
    if kind == "multiclass":
        shares = np.bincount(known.astype(int), minlength=classes) / max(len(known), 1)
        return np.tile(shares if len(known) else np.full(classes, 1 / classes), (rows, 1))
    mean = float(known.mean()) if len(known) and (prior or kind == "regression") else 0.5
    return np.full(rows, mean)


def _vote(known: np.ndarray, votes: np.ndarray, kind: str, classes: int) -> np.ndarray:
    """votes [rows neighbours] -> answer; the shares of the whole training part count as one more
    neighbour.
    """
    if kind == "regression":
        return votes.mean(axis=1)
    if kind == "multiclass":
        shares = np.bincount(known.astype(int), minlength=classes) / len(known)
        counts = (votes[:, :, None] == np.arange(classes)).sum(axis=1)
        return (counts + shares) / (votes.shape[1] + 1)
    return (votes.sum(axis=1) + known.mean()) / (votes.shape[1] + 1)
