"""ReportGenerator: whatever subset of a record's modalities is there -> a report, and answers to questions.

    reporter = ReportGenerator.from_cohort(cohort, report="report")
    mmmed.finetune(reporter, cohort, output="runs/reports")
    reporter.generate(cohort["test"][0].without("image"))

Source: LLaVA (Liu et al., arXiv:2304.08485) and LLaVA-Rad (arXiv:2403.08002): tokens of an encoder, projected
into the width of a language model, stand before the words. Differs: one slot per modality, a learned vector
where one is missing, and encoders that learned to see findings before the language model learns to write.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mmmed.checks import check_count, check_known, listing, plain
from mmmed.data.collate import Collator
from mmmed.data.targets import rows_with_text
from mmmed.language.finding_tables import finding_table
from mmmed.language.labeller import Labeller
from mmmed.language.prompt import Prompt
from mmmed.language.questions import ask_of_question, ask_of_topic
from mmmed.language.target_filter import TargetFilter
from mmmed.language.tokenizer import ReportTokenizer, train_tokenizer
from mmmed.models.inference import asking
from mmmed.models.report_create import SMALL, create_network, table_for
from mmmed.models.report_network import ReportNetwork
from mmmed.models.report_writing import (
    DEFAULT_LIMIT,
    encoded_batch,
    write_replies,
    write_reports,
)
from mmmed.types import Record, Reply, Report, Schema

if TYPE_CHECKING:
    from mmmed.data.cohort import Cohort

TABLES = {"synthetic": "synthetic", "breast-us": "breast-us", "covid-cxr": "chest", "openi-reports": "chest"}
PREFERRED = ("report", "findings", "findings_text", "report_templated")  # of several columns of text
COVERED = 0.1  # share of the training reports that a table of findings must have something to say about
Stream = Callable[[str, str], None]


class ReportGenerator:
    """Writes reports and answers questions about records; made by `from_cohort`, trained by `mmmed.finetune`.

    network: the part with weights. schema: how records are read. tokenizer, prompt: words to ids, and where
    they and the slots stand. labeller: reads findings out of text, None if no table of findings is known.
    target: the column that holds the reports it learned from. blind: it sees no modality of any patient; what
    a language model makes of the words alone, for comparison. threshold: a sentence with a lower score (mean
    log-probability of a token) is withheld, None = none is. card: measured facts for the model card.
    """

    def __init__(
        self,
        network: ReportNetwork,
        schema: Schema,
        tokenizer: ReportTokenizer,
        labeller: Labeller | None = None,
        target: str = "report",
        prompt: Prompt | None = None,
        blind: bool = False,
    ):
        self.network, self.schema, self.tokenizer = network, schema, tokenizer
        self.labeller, self.target, self.blind = labeller, target, blind
        self.prompt = prompt or Prompt.for_modalities(network.slots, "{question}")
        if not self.prompt.asks:
            raise ValueError(f"The prompt {plain(self.prompt.template)} needs a place for the {{question}}.")
        if self.prompt.without_slot:
            warnings.warn(
                f"The prompt has no slot for {listing(self.prompt.without_slot)}: the language model never "
                "sees that, although a report lists it as used.",
                stacklevel=2,
            )
        self.filter = None if labeller is None else TargetFilter(labeller, tuple(schema.modalities))
        self.threshold: float | None = None
        self.config: dict[str, Any] = {}
        self.card: dict[str, Any] = {}
        self.network.eval()

    @classmethod
    def from_cohort(
        cls,
        cohort: Cohort,
        report: str | None = None,
        *,
        findings: Any = None,
        language_model: Any = SMALL,
        encoders: Mapping[str, Any] | None = None,
        adapters: Mapping[str, Any] | str | None = None,
        fusion: Any = None,
        dim: int = 64,
        vocabulary: int = 1000,
        seed: int = 0,
    ) -> ReportGenerator:
        """A generator for the records of a cohort, not yet trained.

        report: the column with the reports; left out, the cohort's column of that role. findings: a table of
        findings (a name, a dict, a JSON file or a `FindingTable`); known for the published cohorts; False for
        none, but then nothing makes the encoders look before words are learned. language_model, encoders,
        adapters, fusion: see `mmmed.models.report_create.create_network`. vocabulary: pieces of the tokenizer
        that is learned from the training reports for a language model from scratch. seed: of the random first
        weights. LoRA has rank 16 and alpha 32; for others, or DoRA, call
        `mmmed.language.add_lora(reporter.network.language_model, rank=8, dora=True)` before training. Raises
        ValueError if there is no report to learn from, or if hardly one mentions a finding of the table.
        """
        target = _target(cohort, report)
        labeller = _labeller(cohort, target, findings)
        tokenizer = None
        if not isinstance(language_model, str) or language_model == SMALL:
            tokenizer = _learn_tokenizer(cohort, target, labeller, vocabulary)
        network, tokenizer, config = create_network(
            cohort.schema,
            tokenizer,
            labeller,
            language_model=language_model,
            encoders=encoders,
            adapters=adapters,
            fusion=fusion,
            dim=dim,
            seed=seed,
        )
        made = cls(network, cohort.schema, tokenizer, labeller, target)
        made.config = config
        return made

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(self.schema.modalities)

    @property
    def topics(self) -> tuple[str, ...]:
        """What `generate(topics=...)` was taught to write about."""
        return () if self.labeller is None else self.labeller.topics

    # ---------------------------------------------------------------------------------------------- writing

    def generate(
        self,
        records: Record | Mapping[str, Any] | Sequence[Record],
        topics: Sequence[str] | None = None,
        *,
        beams: int = 1,
        evidence: bool = True,
        stream: Stream | None = None,
        limit: int = DEFAULT_LIMIT,
        batch_size: int = 32,
    ) -> Any:
        """The report of one record, or a list of reports for several.

        topics: one sentence about each of them instead of a free report (see `topics`). beams: beginnings
        kept at a time, 1 = greedy. evidence: also measure what each sentence rests on, one more pass per
        modality. stream(id, text): called after every word with a draft, of which nothing is withheld yet.
        limit: most pieces of a report. A record of which nothing is there gets no report and says so; a
        sentence that states what only a missing modality could show, or that scores below `threshold`, is
        withheld. Raises ValueError for records that cannot be read and for unknown topics.
        """
        found = list(
            self.iterate(
                records,
                topics,
                beams=beams,
                evidence=evidence,
                stream=stream,
                limit=limit,
                batch_size=batch_size,
            )
        )
        return found[0] if isinstance(records, (Record, Mapping)) else found

    def iterate(
        self,
        records: Record | Mapping[str, Any] | Sequence[Record],
        topics: Sequence[str] | None = None,
        *,
        beams: int = 1,
        evidence: bool = True,
        stream: Stream | None = None,
        limit: int = DEFAULT_LIMIT,
        batch_size: int = 32,
    ) -> Iterator[Report]:
        """As `generate`, report by report; only one batch of records is held at a time."""
        for name, count in {"batch_size": batch_size, "beams": beams, "limit": limit}.items():
            check_count(count, name=name)
        asks = None if topics is None else [ask_of_topic(topic) for topic in self._known(topics)]
        options = {"beams": beams, "evidence": evidence, "stream": stream, "limit": limit}
        for some in _chunks(_as_records(records), batch_size):
            yield from write_reports(self, self._batch(some), asks, **options)

    def answer(
        self, record: Record | Mapping[str, Any], question: str, *, limit: int = 32, evidence: bool = True
    ) -> Reply:
        """The answer to a question about one record.

        "not assessable", with a note, where nothing of the record is there, or where the question is about a
        finding that only a missing modality could show. Raises ValueError for an empty question, and for one
        that is longer than the language model can read.
        """
        if not isinstance(question, str) or not question.strip():
            raise ValueError(f"A question is a text with words in it, got {plain(question)}.")
        asked = [ask_of_question(question)]
        return write_replies(self, self._batch([record]), asked, [question], limit, evidence)[0]

    def finding_probabilities(
        self, records: Sequence[Record], batch_size: int = 64
    ) -> tuple[np.ndarray, np.ndarray]:
        """What the finding head sees: probabilities and assessable, both [records labels].

        labels: `labeller.table.labels`. A finding whose modalities are all missing cannot be
        judged: NaN.
        """
        found, judged = [], []
        with asking(self.network):
            for some in _chunks(_as_records(records), batch_size):
                batch = self._batch(some)
                batch = batch.hide(*self.modalities) if self.blind else batch
                logits, assessable = self.network.find(batch.values, batch.rows, len(batch))
                found.append(logits.sigmoid().masked_fill(~assessable, float("nan")).cpu().numpy())
                judged.append(assessable.cpu().numpy())
        width = 0 if self.labeller is None else len(self.labeller.table.labels)
        empty = np.zeros((0, width))
        return np.concatenate([empty, *found]), np.concatenate([empty.astype(bool), *judged])

    def _known(self, topics: Sequence[str]) -> list[str]:
        """Topics as a list, each one that the generator was taught."""
        topics = _texts(topics, "topics")
        for topic in topics if self.topics else ():
            check_known(topic, self.topics, what="topic")
        return topics

    def _batch(self, records: Sequence[Record | Mapping[str, Any]]) -> Any:
        """Some records with their tokens as values; what cannot be read counts as missing and is noted."""
        rows = [r if isinstance(r, Record) else Record.from_row(r, self.schema) for r in records]
        collator = Collator(self.schema, missing_files="absent", unreadable="absent")
        return encoded_batch(self.network, collator(rows))

    # ------------------------------------------------------------------------------------------------ saving

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config, schema, tokenizer, weights (safetensors; of a named language model only what was
        added) and model card; whole or not at all."""
        from mmmed.models.report_files import save_report_generator

        save_report_generator(self, folder)

    def push_to_hub(self, repository: str, private: bool = True) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub. Reaches the network; -> address."""
        from mmmed.models.files import push_model

        return push_model(self, repository, private=private)

    def __repr__(self) -> str:
        weights = sum(p.numel() for p in self.network.parameters())
        return (
            f"ReportGenerator(reads {listing(self.modalities)}; writes {self.target!r}; "
            f"{weights:,} parameters{'; blind' * self.blind})"
        )


# ----------------------------------------------------------------------------------------------------- making


def _target(cohort: Cohort, report: str | None) -> str:
    """The column of reports. Raises ValueError if there is none, or none with text in it."""
    texts = [name for name, role in cohort.roles.items() if role == "text target"]
    if report is None:
        report = next((name for name in PREFERRED if name in texts), texts[0] if texts else None)
    if report is None:
        raise ValueError(
            "No column of this cohort is a report. Name the one that is: ReportGenerator.from_cohort(cohort, "
            'report="column").'
        )
    if report in cohort.schema.columns:
        raise ValueError(
            f"The column {report!r} is an input of this cohort, so a report would be copied and not written. "
            "Take it out of the inputs, or name another column."
        )
    if not _training_texts(cohort, report):
        raise ValueError(
            f"No training record has a text in the column {report!r}; there is nothing to learn."
        )
    return report


def _training_texts(cohort: Cohort, target: str) -> list[str]:
    cells = cohort["train"].column(target)
    return [cells[row] for row in rows_with_text(cells)]


def _labeller(cohort: Cohort, target: str, findings: Any) -> Labeller | None:
    if findings is False:
        return None
    if findings is None:
        findings = TABLES.get(cohort.name)
        if findings is None:
            raise ValueError(
                f"Which findings do the reports of {cohort.name or 'this cohort'} speak of? Name a table, "
                'such as findings="chest", or a FindingTable of your own; findings=False trains without, and '
                "then nothing makes the model look at the patient before it learns to write."
            )
    labeller = Labeller(table_for(finding_table(findings), cohort.schema))
    texts = _training_texts(cohort, target)
    share = labeller.coverage(texts)
    if share < COVERED:
        shown = "; ".join(plain(text, 80) for text in texts[:3])
        raise ValueError(
            f"Only {share:.0%} of the training reports mention a finding of the table "
            f"{labeller.table.name!r}, for example: {shown}. Give a table in the language and of the field "
            "of these reports, or findings=False."
        )
    return labeller


def _learn_tokenizer(
    cohort: Cohort, target: str, labeller: Labeller | None, vocabulary: int
) -> ReportTokenizer:
    """A tokenizer from the training reports and from the words that prompts are made of."""
    texts = _training_texts(cohort, target)
    if labeller is not None:
        from mmmed.language.questions import words_of_prompts

        texts += words_of_prompts(labeller) * 2  # a word that is met once gets no piece of its own
    return ReportTokenizer(train_tokenizer(texts, vocabulary))


def _texts(items: Sequence[str], name: str) -> list[str]:
    if isinstance(items, str) or not all(isinstance(item, str) and item.strip() for item in items):
        raise ValueError(f"{name} should be a list of texts, got {plain(items)}.")
    return list(items)


def _as_records(records: Any) -> Any:
    """Something to go through record by record. Raises ValueError for what holds no records."""
    if isinstance(records, (Record, Mapping)):
        return [records]
    if isinstance(records, (str, bytes)) or hasattr(records, "iterrows") or not hasattr(records, "__iter__"):
        raise ValueError(
            f"Records should be a Record, a table row as a dict, a list of them, or a cohort, got "
            f"{plain(type(records).__name__)}. Open a table with mmmed.Cohort.from_csv or from_frame."
        )
    return records


def _chunks(records: Sequence[Record], size: int) -> Iterator[list[Record]]:
    """Lists of at most `size`, read from a cohort slice by slice."""
    some: list[Record] = []
    for record in records:
        some.append(record)
        if len(some) == size:
            yield some
            some = []
    if some:
        yield some
