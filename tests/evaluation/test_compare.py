"""The model's scores stand next to the baselines, on the same rows."""

from mmmed import create_model, load_cohort
from mmmed.evaluation.compare import compare_with_baselines
from mmmed.evaluation.evaluate import evaluate


def test_the_model_row_equals_its_own_evaluation_and_every_baseline_has_the_same_rows():
    cohort = load_cohort("synthetic", patients=80, seed=0)
    model = create_model(cohort.schema)
    table = compare_with_baselines(model, cohort["train"], cohort["test"], "diagnosis", draws=50)
    assert table[0]["inputs"] == "model"
    assert table[0]["auroc"].value == evaluate(model, cohort["test"], draws=50)[0]["auroc"].value
    assert len(set(table.column("n"))) == 1
    assert "logistic regression, all inputs" in table.column("inputs")
