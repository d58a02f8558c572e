"""A report and, for each of its sentences, where in the picture that is: words and masks in one answer.

    answer = answer_with_masks(reporter, segmenter, cohort["test"][0])
    report, masks = answer

Any reporter and any segmenter go together, since a sentence is a phrase: "A small nodule in the left upper
zone." A segmenter that reads phrases with a language model (`query=reporter`) may also read all sentences in
one pass over the report. Source: LISA (Lai et al., arXiv:2308.00692), whose answers hold text and masks.
Differs: every sentence is asked, and may be answered with "not there".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from mmmed.checks import plain
from mmmed.language.sentences import sentences
from mmmed.models.language_states import report_states
from mmmed.models.phrase_reader import StateReader
from mmmed.types import Mask, Phrase, Record, Report
from mmmed.types.mask import card_of, printable

if TYPE_CHECKING:
    from mmmed.models.report_generator import ReportGenerator


@dataclass(frozen=True)
class ReportWithMasks:
    """A report, and one mask for each of its sentences that has words, in their order.

    `mask.phrase` is the sentence; an empty mask says that the picture shows no such thing, which is what a
    sentence such as "No effusion." should be answered with.
    """

    report: Report
    masks: tuple[Mask, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "masks", tuple(self.masks))
        told = asked_of(self.report)
        if [mask.phrase for mask in self.masks] != told:
            raise ValueError(
                f"There should be one mask for each sentence with words, {len(told)} in their order, got "
                f"{len(self.masks)}: {plain([mask.phrase for mask in self.masks])}."
            )

    def __iter__(self) -> Iterator[Any]:
        """report, masks = answer."""
        return iter((self.report, list(self.masks)))

    @property
    def shown(self) -> tuple[Mask, ...]:
        """The masks of what is there."""
        return tuple(mask for mask in self.masks if mask.present)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form, without pixels."""
        return {"report": self.report.to_dict(), "masks": [mask.to_dict() for mask in self.masks]}

    def __str__(self) -> str:
        lines = ["  where:" if self.masks else "  where: nothing was asked"]
        for mask in self.masks:
            answer = f"{100 * mask.share:.1f} % of the picture" if mask.present else "not there"
            lines.append(f"    {printable(mask.phrase)}  [{answer}]")
        return "\n".join([str(self.report), *lines])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The report beside its picture with all masks; every text is escaped, since it may come from
        data."""
        card = card_of(self.masks) if self.masks else "<div>There is no sentence to point at.</div>"
        return (
            '<div style="display:flex;flex-wrap:wrap;gap:12px;align-items:flex-start">'
            f"{self.report._repr_html_()}{card}</div>"
        )


class ReportReader(StateReader):
    """Reads the phrases about each record as the sentences of one report -> states [m width].

    A sentence's state then also holds what was said before it. A query maker that learned from phrases alone
    does not know such states; one that learned with this reader does.
    """

    def read(
        self, phrases: Sequence[Phrase], records: Sequence[Record], which: Sequence[int]
    ) -> dict[str, Tensor]:
        """which [m]: the record of each phrase; those of one record in the order of its report."""
        states = torch.zeros(len(phrases), self.reporter.network.words.embedding_dim)
        for row in dict.fromkeys(which):
            places = [place for place, other in enumerate(which) if other == row]
            record = records[row].only(*self.schema.modalities)
            said = [phrases[place].text for place in places]
            states[places] = report_states(self.reporter, record, said).cpu()
        return {"states": states}


def answer_with_masks(
    reporter: ReportGenerator,
    segmenter: Any,
    record: Any,
    *,
    spacing: Sequence[float] | None = None,
    in_one_pass: bool = False,
) -> ReportWithMasks:
    """Write the report of a record, then draw a mask for each of its sentences.

    reporter: anything with `generate(records)`. segmenter: anything with `segment(record, phrases,
    spacing=)`. spacing: mm per pixel of the picture as it came. in_one_pass: the segmenter reads all
    sentences in one pass over the report (see `ReportReader`); only right if it was trained so.

    Without a picture the report stays and every mask is empty; where nothing could be said there is no mask.
    Raises ValueError for `in_one_pass` with a segmenter that does not read states of a language model.
    """
    (report,) = reporter.generate([record])
    if in_one_pass:
        segmenter = _reading_reports(segmenter)
    told = asked_of(report)
    return ReportWithMasks(report, tuple(segmenter.segment(record, told, spacing=spacing)) if told else ())


def asked_of(report: Report | str | Sequence[str]) -> list[str]:
    """The sentences of a report, of a text, or of a list that can be asked for: those with a letter or digit.

    Raises ValueError for anything else.
    """
    if isinstance(report, Report):
        told = [sentence.text for sentence in report.sentences]
    elif isinstance(report, str):
        told = sentences(report)
    elif isinstance(report, Sequence) and not isinstance(report, bytes):
        told = list(report)
    else:
        raise ValueError(
            "report should be a Report, its text, or a list of sentences, such as reporter.generate gives, "
            f"got {plain(report)}."
        )
    return [text for text in told if any(letter.isalnum() for letter in str(text))]


def _reading_reports(segmenter: Any) -> Any:
    """The same segmenter, which reads phrases as sentences of one report."""
    reader = getattr(segmenter, "reader", None)
    if not isinstance(reader, StateReader):
        raise ValueError(
            "in_one_pass is for a segmenter that reads phrases with a language model, made by "
            f"from_cohort(query=reporter); this one reads {plain(getattr(reader, 'kind', 'words'))}. Leave "
            "it out."
        )
    other = copy(segmenter)  # the network and its weights are shared
    other.reader = ReportReader(reader.reporter)
    return other
