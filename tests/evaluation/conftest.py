"""The small cohorts as fixtures."""

from __future__ import annotations

import pandas as pd
import pytest
from small_cohorts import cohort_of, frame_of

from mmmed.data.cohort import Cohort


@pytest.fixture(scope="session")
def frame() -> pd.DataFrame:
    return frame_of()


@pytest.fixture(scope="session")
def cohort(frame) -> Cohort:
    return cohort_of(frame)
