"""Small public tables that come inside scikit-learn, cut into modalities: real data for lectures and tests.

They need no download and no folder. Each is one table in truth; the cut shows what a missing modality does
where a model can be trained in seconds.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas

    from mmmed.data.cohort import Cohort


@dataclass(frozen=True)
class Bundled:
    """frame: reads the table. modalities: name -> its columns. target: the column of the binary question."""

    frame: Callable[[], pandas.DataFrame]
    modalities: Mapping[str, tuple[str, ...]]
    target: str

    def open(self, name: str) -> Cohort:
        """The cohort under that name: complete, split by record."""
        from mmmed.data.cohort import Cohort
        from mmmed.data.inference import Columns
        from mmmed.data.sources import read_frame

        tables = {name: list(columns) for name, columns in self.modalities.items()}
        source = replace(read_frame(self.frame(), None), name=name)
        columns = Columns(tabular=tables, target=self.target)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the corner of a digit is always blank is no news
            return Cohort.from_source(source, columns, None, None, None, "error", "error", 0)


def _diabetes() -> pandas.DataFrame:
    from sklearn.datasets import load_diabetes

    data = load_diabetes(as_frame=True, scaled=False)
    return data.data.assign(progression=(data.target > data.target.median()).astype(int))


def _breast_cancer() -> pandas.DataFrame:
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer(as_frame=True)
    return data.data.assign(malignant=(data.target == 0).astype(int))


def _digits() -> pandas.DataFrame:
    from sklearn.datasets import load_digits

    data = load_digits(as_frame=True)
    return data.data.assign(large=(data.target >= 5).astype(int))


def _cell_measures(*names: str) -> tuple[str, ...]:
    """Mean, error and worst value of each measure of the cell nuclei."""
    return tuple(column for name in names for column in (f"mean {name}", f"{name} error", f"worst {name}"))


def _quadrant(top: int, left: int) -> tuple[str, ...]:
    return tuple(f"pixel_{row}_{column}" for row in range(top, top + 4) for column in range(left, left + 4))


BUNDLED = {
    # 442 patients, progression after a year above its median: Efron et al., doi:10.1214/009053604000000067
    "diabetes": Bundled(
        _diabetes,
        {
            "demographics": ("age", "sex"),
            "vitals": ("bmi", "bp"),
            "serum": ("s1", "s2", "s3", "s4", "s5", "s6"),
        },
        "progression",
    ),
    # 569 needle aspirates: Street et al. 1993, doi:10.1117/12.148698
    "breast-cancer": Bundled(
        _breast_cancer,
        {
            "size": _cell_measures("radius", "perimeter", "area"),
            "texture": _cell_measures("texture", "smoothness"),
            "shape": _cell_measures(
                "compactness", "concavity", "concave points", "symmetry", "fractal dimension"
            ),
        },
        "malignant",
    ),
    # 1,797 digits of 8 x 8 pixels, is it 5 or more: Alpaydin and Kaynak 1998, doi:10.24432/C50P49
    "digits": Bundled(
        _digits,
        {
            "upper left": _quadrant(0, 0),
            "upper right": _quadrant(0, 4),
            "lower left": _quadrant(4, 0),
            "lower right": _quadrant(4, 4),
        },
        "large",
    ),
}
