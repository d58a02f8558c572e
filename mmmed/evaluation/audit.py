"""The audit: what must be known about a cohort before a model is trained on it.

It looks for three things that no score on the test part can show: the answer leaking into the inputs, the
answer being told by what is missing or by a device, and patients who sit on both sides of the split.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mmmed.checks import check_count
from mmmed.evaluation.doubles import check_patients, check_pictures, check_rows
from mmmed.evaluation.findings import Audit, Finding
from mmmed.evaluation.shortcuts import check_columns, check_confounders, check_presence, check_texts
from mmmed.evaluation.tasks import questions
from mmmed.evaluation.tidiness import check_cells, check_gaps, check_patterns, check_sizes

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort


def audit(cohort: Cohort, draws: int = 1000, seed: int = 0, pictures: int = 5000) -> Audit:
    """Look over a whole cohort (all parts) and say what is wrong, what is dangerous, and what is only worth
    knowing.

    Every task is asked as yes-or-no questions (`tasks.questions`), the first twelve of them. draws: of
    patients, for the intervals. pictures: up to so many per image modality are opened in search of copies; 0
    opens none. Presence alone is scored by one definition (`shortcuts`) and warned of above AUROC 0.55.
    Raises ValueError for an empty cohort.
    """
    check_count(len(cohort), name="The number of records in the cohort")
    check_count(pictures, name="pictures", least=0)
    asked = questions(cohort)
    findings: list[Finding] = [] if asked else [Finding("note", "tasks", "the schema asks no question yet.")]
    if len(asked) > 12:
        text = f"{len(asked)} yes-or-no questions; the first 12 were looked into."
        findings.append(Finding("note", "tasks", text))
        asked = asked[:12]
    tables = {}
    for name, (found, table) in {
        "sizes": check_sizes(cohort, asked),
        "patterns": check_patterns(cohort, asked),
        "gaps": check_gaps(cohort, asked),
        "presence": check_presence(cohort, asked, draws, seed),
        "columns": check_columns(cohort, asked),
        "texts": check_texts(cohort, asked, draws, seed),
        "confounders": check_confounders(cohort, asked, draws, seed),
        "pictures": check_pictures(cohort, pictures),
    }.items():
        findings += found
        tables[name] = table
    findings += [*check_patients(cohort), *check_rows(cohort), *check_cells(cohort)]
    return Audit(cohort.name, tuple(findings), tables)
