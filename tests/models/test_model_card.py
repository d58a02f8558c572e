"""The model card: names come from data, so neither HTML nor a link nor another block can be made of them."""

import re

from mmmed.data.folders import load_cohort
from mmmed.models.card import measured, model_card, safe
from mmmed.models.create import create_model
from mmmed.models.inference import calibrate
from mmmed.types import Binary, Number, Schema, Tabular

HOSTILE = "<img src=x onerror=alert(1)> [a](javascript:b) `c` | d"


def hostile_model():
    """A model whose every name is markup."""
    table = Tabular((Number(f"crp {HOSTILE}"), Number("```\n\n</pre><b>fence")))
    model = create_model(Schema({f"labs {HOSTILE}": table}, {f"ill {HOSTILE}": Binary(f"ill {HOSTILE}")}))
    model.card = {
        "data": f"{HOSTILE}: 3 train records.",
        "training": {f"effective sample size, {HOSTILE}": 3, "frozen": HOSTILE},
        "tables": {f"Scores {HOSTILE}": f"| task |\n| --- |\n| {HOSTILE} |"},
    }
    return model


def check(text):
    assert not re.search(r"<(?!/?pre>)", text), "no tag but our own"
    assert text.count("<pre>") == text.count("</pre>") <= 1
    words = re.sub(r"<pre>.*</pre>", "", text, flags=re.DOTALL)  # no Markdown in there
    assert not re.search(r"(?<!\\)\]\(", words)


def test_names_are_words_wherever_they_stand():
    text = model_card(hostile_model())
    check(text)
    assert text.count("onerror=alert(1)") >= 7, "they are still told"
    check("\n".join(measured(hostile_model().card)))


def test_a_name_in_the_table_of_patterns_makes_no_cell():
    cohort = load_cohort("synthetic", patients=90)
    kinds = {"a | b": cohort.schema.modalities["table"]}
    cohort = cohort.with_schema(Schema(kinds, cohort.schema.tasks, cohort.schema.group, cohort.schema.id))
    text = model_card(calibrate(create_model(cohort.schema), cohort["val"]))
    (line,) = (line for line in text.splitlines() if line.startswith("| a "))
    assert len(re.findall(r"(?<!\\)\|", line)) == 3


def test_the_schema_keeps_its_columns_and_its_arrows():
    model = create_model(Schema({"labs": Tabular((Number("crp", unit="mg/l"),))}, {"ill": Binary("ill")}))
    assert f"<pre>\n{model.schema}\n</pre>" in model_card(model)
    assert "->" in model_card(model)


def test_safe_words_stay_readable():
    assert safe("a\n<b> & [c]") == r"a &lt;b&gt; &amp; \[c\]"
    assert safe("synthetic: 840 train records, ldh_2 [U/l]") == r"synthetic: 840 train records, ldh_2 \[U/l\]"
