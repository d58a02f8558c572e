"""The words that deny, doubt, or only look as if they did; all regular expressions, matched in lower case.

Groups follow NegEx (Chapman et al., J Biomed Inform 34:301, 2001): words before and after a term, words that
only look like a negation, words that end its reach. The phrases are our own.
"""

from __future__ import annotations

from dataclasses import dataclass

_BE = r"(?:is|are|was|were|has|have|had|be|been|being)"
_SEEN = (
    r"(?:seen|identified|present|visible|visuali[sz]ed|evident|noted|demonstrated|detected|appreciated"
    r"|observed|found|apparent|shown|suspected|definite(?:ly)?)"
)
_NO_OR = r"(?!.*(?:(?<!\w)n?or(?!\w)|\w/\w))"  # a list that ends with "or" is under one negation
_QUIET = r"(?:mild|mildly|moderate|severe|stable|unchanged|small|minimal|bilateral|left|right|status)"
_SIZED = (
    r"(?:large|big|huge|massive|marked|extensive|considerable|trace|tiny|minute|slight|bibasilar|bibasal"
    r"|biapical|basilar|basal|apical|right-sided|left-sided|upper|lower|diffuse|patchy|loculated|layering"
    r"|persistent|residual|chronic|new|old|increased|increasing|associated|adjacent|underlying)"
)


@dataclass(frozen=True)
class Cues:
    """What gives a term its status, for one language.

    absent_before, uncertain_before: reach every term after them in the clause; absent_after,
    uncertain_after: every term before them up to another verb. alternatives: stand between two terms that
    are both uncertain ("atelectasis versus pneumonia"). neutral: look like a negation and are none. past:
    the term after it tells of another time and is left out. resets: end a negation within the clause.
    """

    absent_before: tuple[str, ...] = (
        "no",
        "not",
        "without",
        "free of",
        "free from",
        "clear of",
        "neg(?:ative)? for",
        "absence of",
        "lack of",
        "non-? ?visuali[sz]ation of",
        "lacks?",
        "resolution of",
        "resolved",
        "rather than",
        "instead of",
        "nor",
        "neither",
        "never",
        "none of",
        "nothing to",
        "devoid of",
        "den(?:y|ies|ied)",
        "excludes?",
        "ruled out",
        "removal of",
        "unlikely to (?:be|represent|reflect)",
    )
    absent_after: tuple[str, ...] = (
        rf"{_BE} (?:\w+ )?(?:not|no longer|never) (?:\w+ ){{0,3}}{_SEEN}",
        rf"(?:not|no longer|never) (?:\w+ ){{0,2}}{_SEEN}",
        rf"(?:{_BE} ){{1,2}}(?:\w+ )?(?:absent|resolved|cleared|excluded|ruled out|negative)",
        rf"(?:{_BE} ){{0,2}}removed",
        "(?:absent|resolved|not present|ruled out|excluded)",
        "[:=] ?(?:none|absent|negative|neg)",
        r" ?[:=-] ?no(?= ?\.?$)",
    )
    uncertain_before: tuple[str, ...] = (
        "possible",
        "possibly",
        "probable",
        "probably",
        "presumed",
        "presumably",
        "likely",
        "may",
        "might",
        "could",
        "can represent",
        "suspect(?:ed)?",
        "suspicious (?:for|of)",
        "suspicion (?:for|of)",
        "concern(?:ing)? (?:for|of)",
        "worrisome for",
        "question(?:able)?(?: of)?",
        "query",
        r"\?",
        "equivocal",
        "borderline",
        "(?:cannot|can not|can't|could not|to) (?:\\w+ )?(?:exclude|rule out)",
        "not (?:\\w+ )?exclude",
        "rule out",
        "r/o",
        "(?:evaluate|evaluation|assess) for",
        "to (?:identify|evaluate|assess|detect)",
        "suggest(?:s|ed|ing|ive)?(?: of| that)?",
        "appearance of",
        "differential",
        "if (?:there|clinical(?:ly)?)",
        "unclear",
        "if any",
    )
    uncertain_after: tuple[str, ...] = (
        rf"(?:{_BE} )?(?:cannot|can not|can't|could not|not) (?:be )?(?:\w+ )?(?:excluded|ruled out)",
        f"(?:{_BE} ){{1,2}}(?:also )?(?:possible|suspected|questioned|questionable|(?:un)?likely|probable)",
        "(?:may|might|could|would|should) (?:also )?be (?:present|there|considered|a consideration)",
        "(?:less|not) likely",
        "unlikely",
        ",? ?if any",
        r"\?",
    )
    alternatives: tuple[str, ...] = (r"versus", r"vs\.?", "and/or", "or")
    neutral: tuple[str, ...] = (
        "no (?:\\w+ ){0,2}(?:change|increase|decrease)s?",
        "without (?:\\w+ ){0,2}change",
        "not (?:\\w+ )?(?:changed|only|increased|decreased)",
        rf"(?:{_BE} )?not (?:well|fully|completely|adequately|clearly) (?:{_SEEN}|evaluated|assessed)",
        rf"(?:{_BE} )?not (?:\w+ )?{_SEEN} (?:previously|on (?:the )?(?:prior|previous))",
        "no difference",
        r"may \d{1,4}",
    )
    past: tuple[str, ...] = ("history of", "h/o", "hx of", "prior history of")
    resets: tuple[str, ...] = (
        rf", (?:and )?(?:the|there|{_QUIET}|possibl[ey]|probabl[ey]|likely|query)(?= {_NO_OR})",
        rf"with (?:an?|{_QUIET}|{_SIZED})(?= {_NO_OR})",
        "and (?:with|there|the)",
        r", (?:recommend|consider|suggest|correlat|advis)\w*",
        rf"{_BE} {_SEEN},? (?:and|with|in) ",
        ": ",
    )
