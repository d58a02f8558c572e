"""Nearest reporter: the report of the training patient who looks most alike. No language is learned at all.

The retrieval baseline of report generation: a language model has to beat it to have earned its cost. Source:
Cover and Hart 1967, doi:10.1109/TIT.1967.1053964; as a report baseline Boag et al. 2020, PMLR 116 ("Baselines
for chest x-ray report generation"). Differs: patients are compared over the modalities that both have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_known, listing
from mmmed.models.plain_reporters import TargetFilter, ToldReports, reports_of, written
from mmmed.types import Record, Report

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

Features = Callable[[Sequence[Record]], Mapping[str, np.ndarray]]  # modality -> [n numbers], NaN where absent
GRID = 16  # pixels along a side that pictures are shrunk to
BATCH = 128


class NearestReporter:
    """Hand out the report of the nearest training record.

    train: modality -> [n numbers], a row of NaN where a record does not have it. Distance: per modality the
    mean squared difference of the standardised numbers, added up over the modalities that both records have;
    two records that share none are infinitely far apart. A training record that shares fewer of the
    modalities which the patient has comes after all that share more, so that few numbers never look near by
    being few. Ties go to the first.
    """

    def __init__(
        self,
        told: ToldReports,
        train: Mapping[str, np.ndarray],
        features: Features,
        modalities: Sequence[str],
        labeller: Any = None,
        target_filter: TargetFilter | None = None,
        ids: Sequence[str] = (),
    ):
        self.texts, self.features, self.modalities = told.texts, features, tuple(modalities)
        self.labeller, self.target_filter, self.ids = labeller, target_filter, tuple(ids)
        self.scaling = {name: _scaling(values) for name, values in train.items()}
        self.train = {name: _standard(values, self.scaling[name]) for name, values in train.items()}

    @classmethod
    def fit(
        cls,
        train: Cohort,
        target: str,
        features: Features | None = None,
        labeller: Any = None,
        target_filter: TargetFilter | None = None,
    ) -> NearestReporter:
        """From training records; target: the column of their reports.

        features(records) -> modality -> [n numbers], for example the pooled tokens of an encoder; without it,
        the pixels of every picture. Raises ValueError if there is no report, or nothing to compare.
        """
        told = reports_of(train, target)
        train = train.where(told.rows)
        features = features or Pixels(train)
        parts = [features(list(train[start : start + BATCH])) for start in range(0, len(train), BATCH)]
        names = {name for part in parts for name in part}
        if not names:
            raise ValueError(
                "There is nothing to compare patients by: features gave no modality. Pass features= that "
                f"gives numbers for {listing(train.schema.modalities)}."
            )
        for name in names:
            check_known(name, train.schema.modalities, what="modality of features")
        values = {
            name: np.concatenate([np.asarray(part[name], float) for part in parts]) for name in sorted(names)
        }
        return cls(
            told, values, features, train.schema.modalities, labeller, target_filter, train.ids.tolist()
        )

    def generate(self, records: Sequence[Record]) -> list[Report]:
        """One report per record, in their order; its note names the training record it comes from. Raises
        ValueError for a picture that cannot be read, unless the training cohort was opened with
        unreadable="absent"."""
        reports = []
        for start in range(0, len(records), BATCH):
            some = list(records[start : start + BATCH])
            given = {name: np.asarray(values, float) for name, values in self.features(some).items()}
            for row, record in enumerate(some):
                reports.append(self._report(record, {name: values[row] for name, values in given.items()}))
        return reports

    def _report(self, record: Record, own: Mapping[str, np.ndarray]) -> Report:
        here = {
            name: _standard(values[None], self.scaling[name])[0]
            for name, values in own.items()
            if name in self.train and name in record.inputs and not np.isnan(values).any()
        }
        nearest, shared = self._nearest(here)
        if nearest is None:
            missing = tuple(name for name in self.modalities if name not in record.inputs)
            note = f"Patients are compared by {listing(self.train)}; this record shares none of it."
            return Report(record.id, (), (), missing, abstained=True, notes=(note,))
        name = self.ids[nearest] if self.ids else str(nearest)
        note = f"The report of training record {name}, the nearest by {listing(shared)}."
        return written(
            record,
            self.texts[nearest],
            self.modalities,
            shared,
            self.labeller,
            self.target_filter,
            (note,),
        )

    def _nearest(self, own: Mapping[str, np.ndarray]) -> tuple[int | None, tuple[str, ...]]:
        """Row of the nearest training record, and the modalities by which it was compared."""
        if not own:
            return None, ()
        each = np.stack([((self.train[name] - values) ** 2).mean(axis=1) for name, values in own.items()])
        known = ~np.isnan(each)  # [modalities train]
        shared = known.sum(axis=0)
        if not shared.max():
            return None, ()
        distance = np.where(known, each, 0).sum(axis=0)  # only ever compared where as many are shared
        nearest = int(np.lexsort((distance, -shared))[0])
        return nearest, tuple(name for name, there in zip(own, known[:, nearest], strict=True) if there)


class Pixels:
    """Every picture of a record as numbers: read as the cohort reads it, shrunk to 16 x 16 grid means.

    records -> modality -> [n numbers], NaN where there is no picture. Several views are averaged.
    """

    def __init__(self, cohort: Cohort, grid: int = GRID):
        from mmmed.types import Image

        self.pictures = {n: m for n, m in cohort.schema.modalities.items() if isinstance(m, Image)}
        if not self.pictures:
            raise ValueError(
                f"The cohort has no picture, only {listing(cohort.schema.modalities)}. Pass features= that "
                "gives numbers for what there is."
            )
        self.collate, self.grid = cohort.collate, grid

    def __call__(self, records: Sequence[Record]) -> dict[str, np.ndarray]:
        batch = self.collate([record.only(*self.pictures) for record in records])
        numbers = {}
        for name, modality in self.pictures.items():
            filled = np.full((len(records), modality.channels * self.grid**2), np.nan)
            if name in batch.values:
                filled[batch.rows[name].numpy()] = _shrunk(batch.values[name], self.grid)
            numbers[name] = filled
        return numbers


def _shrunk(values: Mapping[str, Any], grid: int) -> np.ndarray:
    """pixels [n views channels height width], views [n views] (which are there) -> [n channels*grid*grid]."""
    from torch.nn.functional import adaptive_avg_pool2d

    pixels, there = values["pixels"], values["views"]
    small = adaptive_avg_pool2d(pixels.flatten(0, 1), grid).flatten(1).unflatten(0, there.shape)
    weight = there[..., None].to(small.dtype)
    return ((small * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1)).numpy()


def _scaling(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of each number over the records that have it; a constant number has scale 1."""
    known = values[~np.isnan(values).any(axis=1)]
    if not len(known):
        return np.zeros(values.shape[1]), np.ones(values.shape[1])
    scale = known.std(axis=0)
    return known.mean(axis=0), np.where(scale > 1e-8, scale, 1.0)


def _standard(values: np.ndarray, scaling: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    mean, scale = scaling
    return (np.asarray(values, float) - mean) / scale
