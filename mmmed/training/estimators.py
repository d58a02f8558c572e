"""The scikit-learn way: a data frame with holes in, a calibrated and stress-tested model out.

model = MultimodalClassifier(target="malignant", group="patient").fit(frame)
model.predict_proba(frame)          # a frame with the same index, one column per class
model.evaluate(other_frame)         # scores with intervals by patient
model.explain(frame.iloc[0])        # the way to one answer, what was used and what was missing
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from mmmed.checks import check_share, listing, plain
from mmmed.types import Prediction, Record, Regression

if TYPE_CHECKING:
    import pandas

    from mmmed.data.cohort import Cohort
    from mmmed.evaluation.scores import Table
    from mmmed.models.multimodal import MultimodalModel

Columns = str | Sequence[str] | Mapping[str, Any] | None


class _Multimodal(BaseEstimator):
    """What classifier and regressor share: columns to cohort, fit, predict, explain."""

    def __init__(
        self,
        target: str = "label",
        group: str | None = None,
        columns: Mapping[str, Columns] | None = None,
        root: str | None = None,
        fusion: Any = "multimodn",
        encoders: Mapping[str, Any] | None = None,
        epochs: int = 30,
        validation: float = 0.2,
        seed: int = 0,
        verbose: bool = True,
    ):
        self.target = target
        self.group = group
        self.columns = columns
        self.root = root
        self.fusion = fusion
        self.encoders = encoders
        self.epochs = epochs
        self.validation = validation
        self.seed = seed
        self.verbose = verbose

    def fit(self, X: pandas.DataFrame, y: Any = None) -> _Multimodal:
        """Choose columns, split by patient, train, calibrate, and compare with the plain baselines.

        X: one row per examination; what is missing is None, NaN or empty. y: the target, if it is no column
        of X. Prints (and keeps) the chosen schema, the patterns of what is present, and the scores on the
        validation rows.
        """
        from mmmed.models.create import create_model
        from mmmed.training.finetune import finetune

        check_share(self.validation, name="validation")
        frame = self._with_target(_frame(X), y)
        self.cohort_ = self._cohort(frame)
        self.schema_ = self.cohort_.schema
        self._check_task(frame[self.target])
        self.feature_names_in_ = np.array(list(self.schema_.columns), dtype=object)
        self._say(f"{self.cohort_}\n")
        model = create_model(self.schema_, fusion=self.fusion, encoders=self.encoders, seed=self.seed)
        self.run_ = finetune(model, self.cohort_, epochs=self.epochs, seed=self.seed, progress=self.verbose)
        self.model_: MultimodalModel = model
        self.patterns_ = _patterns(self.cohort_)
        self.report_ = self._report()
        self._say(
            f"{self.run_}\n\nScores on the validation rows, which also stopped and calibrated the training, "
            "so a "
            f"little in favour of the model:\n{self.report_}"
        )
        return self

    def evaluate(self, X: pandas.DataFrame, y: Any = None) -> Table:
        """Scores on other rows, each with an interval by patient, over all and per pattern of what is
        present."""
        from mmmed.evaluation.evaluate import evaluate

        return evaluate(self._fitted(), self._rows(self._with_target(_frame(X), y)))

    def explain(self, row: Any) -> Prediction:
        """The answer to one row (a Series, a dict, a Record or a frame of one row), and how it came about."""
        from mmmed.models.predict import predict

        model = self._fitted()
        if isinstance(row, Record):
            return predict(model, row)
        if hasattr(row, "columns"):
            if len(row) != 1:
                raise ValueError(f"explain takes one row, got {len(row)}. Pick one: frame.iloc[0].")
            row = row.iloc[0]
        name = str(getattr(row, "name", None) if getattr(row, "name", None) is not None else "record")
        cells = row.to_dict() if hasattr(row, "to_dict") else dict(row)
        folder = None if self.root is None else str(self.root)
        return predict(model, Record.from_row(cells, self.schema_, id=name, folder=folder))

    def save(self, folder: str) -> None:
        """Write the model; `mmmed.load_model(folder)` reads it."""
        self._fitted().save_pretrained(folder)

    # ---------------------------------------------------------------------------------------- inner workings

    def _answers(self, X: pandas.DataFrame) -> np.ndarray:
        """[rows outputs] in the order of the rows."""
        from mmmed.models.inference import predict_proba

        return predict_proba(self._fitted(), self._rows(_frame(X)))[self.target]

    def _cohort(self, frame: pandas.DataFrame) -> Cohort:
        from mmmed.data.cohort import Cohort
        from mmmed.data.guessing import guess_columns

        columns = dict(self.columns or {})
        if not columns:
            self.guess_ = guess_columns(frame, exclude={self.target, self.group} - {None})
            columns = {
                kind: _short(getattr(self.guess_, kind)) for kind in ("image", "volume", "text", "tabular")
            }
            columns = {kind: names for kind, names in columns.items() if names}
            if not columns:
                raise ValueError(
                    f"No column could be used as an input.\n{self.guess_}\nName them: columns={{...}}."
                )
            self._say(
                f"Columns, guessed from their cells (change them with columns={{...}}):\n{self.guess_}\n"
            )
        cohort = Cohort.from_frame(
            frame, target=self.target, group=self.group, root=self.root, seed=self.seed, **columns
        )
        return cohort.split((1 - self.validation, self.validation, 0.0), seed=self.seed)

    def _rows(self, frame: pandas.DataFrame) -> Cohort:
        """Other rows, read by the schema of the model; nothing is learned from them."""
        from mmmed.data.cohort import Cohort

        cohort = Cohort.from_frame(frame, schema=self.schema_, root=self.root)
        none_for_training = np.full(len(cohort), 2, dtype=np.int8)  # all of it is a test part
        return Cohort(cohort.source, cohort.schema, none_for_training, split_origin="all for testing")

    def _with_target(self, frame: pandas.DataFrame, y: Any) -> pandas.DataFrame:
        if y is not None:
            values = np.asarray(y)
            if len(values) != len(frame):
                raise ValueError(
                    f"X has {len(frame)} rows and y has {len(values)}; they should be equally many."
                )
            return frame.assign(**{self.target: values})
        if self.target not in frame.columns:
            raise ValueError(
                f"The target {self.target!r} is no column of the frame, which has {listing(frame.columns)}. "
                "Name "
                "another (target=...), or give y."
            )
        return frame

    def _report(self) -> Table:
        from mmmed.evaluation.compare import compare_with_baselines

        return compare_with_baselines(self.model_, self.cohort_["train"], self.cohort_["val"], self.target)

    def _fitted(self) -> MultimodalModel:
        check_is_fitted(self, "model_")
        return self.model_

    def _say(self, text: str) -> None:
        if self.verbose:
            print(text)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        return tags


class MultimodalClassifier(ClassifierMixin, _Multimodal):
    """Classify records of which any part may be missing.

    target, group: columns of the answer and of the patient. columns: {"image": ..., "tabular": [...], "text":
    ..., "volume": ..., "series": ...} as for `Cohort.from_frame`; None guesses from the cells and says what
    it took. root: folder of the files. fusion, encoders: as for `create_model`. validation: share of the
    patients held back to stop and calibrate. After `fit`: model_, schema_, cohort_, run_, report_, patterns_,
    classes_.
    """

    def predict_proba(self, X: pandas.DataFrame) -> pandas.DataFrame:
        """Calibrated probabilities, one column per class; a frame with the index of X."""
        import pandas

        chances = self._answers(X)
        if chances.shape[1] == 1:
            chances = np.hstack([1 - chances, chances])
        return pandas.DataFrame(chances, index=_frame(X).index, columns=list(self.classes_))

    def predict(self, X: pandas.DataFrame) -> np.ndarray:
        """The likelier class of each row; for two classes, by the threshold that was best on validation."""
        chances = self.predict_proba(X).to_numpy()
        if len(self.classes_) == 2:
            threshold = self._fitted().thresholds.get(self.target, 0.5)
            return self.classes_[(chances[:, 1] >= threshold).astype(int)]
        return self.classes_[chances.argmax(1)]

    def _check_task(self, cells: pandas.Series) -> None:
        task = self.schema_.tasks[self.target]
        if isinstance(task, Regression):
            raise ValueError(
                f"The target {self.target!r} looks like a quantity, not like classes. Use "
                "MultimodalRegressor, or "
                "write the classes as words."
            )
        self.classes_ = _as_written(task.levels, cells)


class MultimodalRegressor(RegressorMixin, _Multimodal):
    """Predict a number from records of which any part may be missing. Arguments as in
    `MultimodalClassifier`."""

    def predict(self, X: pandas.DataFrame) -> np.ndarray:
        """The expected number of each row, in the unit of the target."""
        return self._answers(X)[:, 0]

    def _check_task(self, cells: pandas.Series) -> None:
        from dataclasses import replace

        task = self.schema_.tasks[self.target]
        if isinstance(task, Regression):
            return
        try:
            cells.dropna().astype(float)
        except (TypeError, ValueError):
            raise ValueError(
                f"The target {self.target!r} holds words ({listing(task.levels)}). Use MultimodalClassifier."
            ) from None
        schema = replace(self.schema_, tasks={self.target: Regression(self.target)})
        self.cohort_ = self.cohort_.with_schema(schema).refit()
        self.schema_ = self.cohort_.schema


def _frame(X: Any) -> pandas.DataFrame:
    import pandas

    if not isinstance(X, pandas.DataFrame):
        raise ValueError(f"A pandas DataFrame with named columns is expected, got {plain(type(X).__name__)}.")
    if not len(X):
        raise ValueError("The frame has no rows.")
    return X


def _patterns(cohort: Cohort) -> pandas.DataFrame:
    """Which modalities come together in how many rows."""
    import pandas

    from mmmed.evaluation.evaluate import patterns_of

    found = patterns_of(cohort.present, tuple(cohort.schema.modalities))
    return pandas.DataFrame({"modalities": list(found), "rows": [len(rows) for rows in found.values()]})


def _short(names: tuple[str, ...]) -> Columns:
    """One picture or text column as a name, so that the modality is named by its kind; several as a list."""
    return names[0] if len(names) == 1 else list(names)


def _as_written(levels: Sequence[str], cells: pandas.Series) -> np.ndarray:
    """The classes in the type of the target column: 0 and 1 stay numbers."""
    from mmmed.types import is_missing, spell

    seen = {spell(cell): cell for cell in cells.tolist() if not is_missing(cell)}
    return np.array([seen.get(level, level) for level in levels])
