"""A report to learn from, without what the inputs at hand cannot show.

A model that must write "compared with the previous study" without a previous study learns to invent one
(Ramesh et al., arXiv:2210.06340, remove such references from the targets); the same holds for a cough
without the note. `TargetFilter` leaves out, per record, what no present modality can tell.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from itertools import takewhile

from mmmed.checks import check_known, listing
from mmmed.language.labeller import Labeller
from mmmed.language.sentences import clauses, sentences

PRIOR = "prior"  # the name of the modality that holds an earlier examination
_STUDY = (
    r"(?:exam\w*|stud(?:y|ies)|radiographs?|films?|x-?rays?|ct|chest|cxr|images?|imaging|reports?|xxxx|scan)"
)
_BEFORE = r"(?:prior|previous|earlier|preceding|last)"
_TREND = r"(?:increas|decreas|improv|worsen|progress|enlarg|resolv|diminish|clear|chang|develop)"
_GROWING = r"(?:increas|decreas|improv|worsen|enlarg|resolv|diminish|clear)ing"
_SIZE = r"\d{1,4}(?:[.,]\d{1,3})?(?: ?(?:x|by) ?\d{1,4}(?:[.,]\d{1,3})?)? ?(?:mm|cm)"
_SINCE = r"since (?:yesterday|this morning|(?:the )?(?:operation|surgery|procedure|admission))"
_NOW = r"(?:(?:is|are|has|have|was|were) now|(?<=, )now|now (?:is|are|seen|measur\w+|appears?))"
_NOT_NOW = r"(?! (?:with|presents?|presenting|complain\w+)(?!\w))"
_BE = r"(?:is|are|was|were|been|appears?|seems?|looks?|becomes?|became)"
# not "the larger of the two", "larger than the left", "worse at the bases", "better seen on the lateral view"
_MORE = (
    r"(?:larger|smaller|bigger|worse)(?! (?:of|than|on|at|in the|towards?)(?!\w))"
    r"|better(?! (?:seen|visuali\w+|evaluat\w+|appreciat\w+|assess\w+|demonstrat\w+|defin\w+|on|than)(?!\w))"
)
_COMPARISON = re.compile(
    r"(?<![\w-])(?:"
    r"compar(?:ed|ison|ing)|unchanged|stable|stability|interval(?:ly)?|again|newly|new|re-?demonstrat\w+"
    rf"|{_BEFORE} {_STUDY}|(?:from|to|than|with|since|on|in|versus) (?:the |a )?(?:prior|previous(?:ly)?)"
    r"|(?:similar|identical) to"
    r"|previously(?! (?:healthy|well|fit|treated|operated|resected)(?!\w))|(?:than|as) (?:before|yesterday)"
    r"|no longer|resolved|(?<!high )resolution|persists?|improved|worsened|improvement"
    rf"|{_GROWING}|(?<!cough )(?<!pain )(?<!fever )(?<!symptoms ){_SINCE}|{_NOW}{_NOT_NOW}"
    rf"|(?<=, )(?:was|were|formerly) (?:\w+ )?{_SIZE}|{_SIZE},? (?:before|earlier|formerly)"
    rf"|(?:{_BE} |(?<=, ))(?:now |much |somewhat |\w+ly )?(?:{_MORE})"
    rf"|(?:has|have|had) (?:\w+ )?(?:been )?(?:\w+ )?{_TREND}ed|{_TREND}(?:ed|es?) (?:\w+ )?(?:from|since)"
    r"|(?:no|without|not) (?:(?:significant|substantial|definite|interval)(?:ly)? ){0,2}change[ds]?|remains?"
    r")(?!\w)",
    re.IGNORECASE,
)
# What can go without its clause: an adjective at the start, or a phrase at the end.
_ADJECTIVE = re.compile(
    r"^(\d{1,2}[.)] )?(?:stable|unchanged),? (?!from|since|to|in|compared|and|or|appearance|position)(\w)",
    re.IGNORECASE,
)
_TRENDED = re.compile(
    rf"(?<!\w)(?:{_TREND}(?:ed|ing|e)|larger|smaller|more|less|better|worse)(?!\w)", re.IGNORECASE
)
_PHRASE = re.compile(
    rf",? (?:(?:as )?compared|in comparison) (?:with|to) (?:the )?(?:{_BEFORE})? ?(?:{_STUDY})?(?=\.?$)"
    rf"|, (?:stable|unchanged)(?: (?:from|since|to) (?:the )?{_BEFORE}(?: {_STUDY})?)?(?=\.?$)"
    r"|,? as before(?=\.?$)",
    re.IGNORECASE,
)
_HALF = re.compile(r"(?:although|though|while|whereas|except|apart|aside|other than)(?!\w)", re.IGNORECASE)


def has_comparison(text: str) -> bool:
    """Whether a text compares with an earlier examination: "unchanged", "again seen", "has resolved"."""
    return _COMPARISON.search(text) is not None


class TargetFilter:
    """Leaves out of a report what the present modalities cannot show.

    modalities: names of the schema. A finding of whose `needs` the schema has none is never kept, and what
    names no finding only if one of the table's `otherwise` is present. Raises ValueError if the schema has
    none of the modalities that the labeller's table needs.
    """

    def __init__(self, labeller: Labeller, modalities: Collection[str]):
        self.labeller, self.modalities = labeller, tuple(modalities)
        needed = {name for finding in labeller.table.findings for name in finding.needs}
        if needed and not needed & set(self.modalities):
            raise ValueError(
                f"The findings of the table {labeller.table.name!r} need {listing(sorted(needed))}; the "
                f"schema has {listing(self.modalities)}. Give the table the names of the schema in `needs`."
            )

    def __call__(self, text: str, present: Collection[str]) -> str:
        """The sentences, or clauses of them, that the present modalities can support, joined by a space.

        present: names of `modalities`. A text of which nothing must go comes back as it is.
        """
        for name in present:
            check_known(name, self.modalities, what="modality")
        told = sentences(text)
        kept = [self._kept(sentence, present) for sentence in told]
        return text if kept == told else " ".join(sentence for sentence in kept if sentence)

    def _kept(self, sentence: str, present: Collection[str]) -> str:
        """A sentence, what remains of it, or ""; what remains of one with findings has findings."""
        if self._supported(sentence, present):
            return sentence
        rest = self._rest(sentence, present)
        mentions = self.labeller.mentions
        return rest if mentions(rest) or not mentions(sentence) else ""

    def _rest(self, sentence: str, present: Collection[str]) -> str:
        """What a sentence says that can stay, without the rest of it."""
        shorter = sentence
        if PRIOR not in present:
            shorter = _without_comparison(sentence)
            if self._supported(shorter, present):
                return shorter if " " in shorter or self.labeller.mentions(shorter) else ""
        # what comes after a lost clause goes too: it may lean on it ("but", "which", "no")
        rest = list(takewhile(lambda clause: self._supported(clause, present), clauses(shorter)))
        joined = ", ".join(part.strip(" .,;") for part in rest)
        if not self._supported(joined, present) or _HALF.match(joined):
            return ""
        return f"{joined}." if joined else ""

    def _supported(self, text: str, present: Collection[str]) -> bool:
        """Whether the present modalities can show all that a sentence or clause states."""
        if PRIOR not in present and has_comparison(text):
            return False
        return self.labeller.can_show_sentence(text, present)


def _without_comparison(sentence: str) -> str:
    """The sentence without a comparing adjective or phrase; as it was, if more than that compares."""
    shorter = _PHRASE.sub("", _ADJECTIVE.sub(_shortened, sentence))
    return sentence if _TRENDED.search(shorter) else shorter


def _shortened(match: re.Match[str]) -> str:
    """What stays of the start of a sentence: the number of a list, and the next letter as a capital."""
    return (match.group(1) or "") + match.group(2).upper()
