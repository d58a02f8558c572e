"""Phrases become what a query maker takes: ids of words, rows of a class table, a language model's states.

A reader is kept with a segmenter and saved with it, so that a phrase is read tomorrow as it was in training.
`learn_reader` makes it, and the query maker that goes with it, from the phrases of the training patients.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmmed.checks import check_count, check_known, plain
from mmmed.data.phrase_words import relation_swaps, swap_heights, swap_sides, swap_sizes
from mmmed.data.tokenization import learn_vocabulary, tokenize, tokenizer_of
from mmmed.encoders.text import HuggingFaceTextEncoder, TextEncoder
from mmmed.models.create import named, seeded
from mmmed.segmentation.class_table import ClassTable, hashed_rows
from mmmed.segmentation.state_query import StateQuery
from mmmed.types import Phrase, Record, Schema, Text

if TYPE_CHECKING:
    from mmmed.models.report_generator import ReportGenerator

QUERIES = ("words", "classes", "huggingface")
PIECES = 8000  # of a vocabulary at most; phrases have far fewer
LENGTH = 64  # pieces of a phrase that are read
ARTICLES = ("the ", "a ", "an ")


class WordReader:
    """Reads all words of a phrase -> ids [m length] long, mask [m length] bool.

    A stop at its end is not read: a sentence of a report and the same words in a table are one phrase. text:
    the vocabulary, or the name of a tokenizer, and how many pieces are read.
    """

    kind = "words"
    schema: Schema | None = None

    def __init__(self, text: Text):
        self.text = text

    def read(
        self, phrases: Sequence[Phrase], records: Sequence[Record] = (), which: Sequence[int] = ()
    ) -> dict[str, Tensor]:
        """What the query maker takes. The records are without effect."""
        ids, mask = tokenize([unended(phrase.text) for phrase in phrases], self.text)
        return {"ids": ids, "mask": mask}

    def unknown(self, text: str) -> tuple[str, ...]:
        """The words that no training phrase had, in order; a foreign tokenizer knows every word."""
        if self.text.tokenizer is not None:
            return ()
        text = unended(text)
        encoding = tokenizer_of(self.text).encode(text)
        pieces: dict[int, list[tuple[int, int]]] = {}
        for word, ends, number in zip(encoding.word_ids, encoding.offsets, encoding.ids, strict=True):
            pieces.setdefault(word, []).append((*ends, number))
        found = [text[one[0][0] : one[-1][1]] for one in pieces.values() if len(one) > 1 or one[0][2] == 1]
        return tuple(dict.fromkeys(word for word in found if any(letter.isalnum() for letter in word)))

    def notes(self, phrase: Phrase) -> tuple[str, ...]:
        """What the reader of an answer must know about how the phrase was read."""
        notes = [f'the word "{word}" was never seen in training' for word in self.unknown(phrase.text)]
        if len(tokenizer_of(self.text).encode(unended(phrase.text)).ids) > self.text.length:
            notes.append(f"only the first {self.text.length} pieces of the phrase were read")
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form."""
        text = {"length": self.text.length, "vocabulary": list(self.text.vocabulary)}
        return {"kind": self.kind, **text, "tokenizer": self.text.tokenizer is not None}


class ClassReader:
    """Reads the name of a class, and of an acquisition, out of a phrase -> their rows in a `ClassTable`.

    A phrase that does not say its category is searched for the longest name among its words: "the lesion on
    the left" is "lesion", and the place is not read. Raises ValueError where no class is named.
    """

    kind = "classes"
    schema: Schema | None = None

    def __init__(self, categories: Sequence[str], acquisitions: Sequence[str] = ()):
        self.categories, self.acquisitions = tuple(categories), tuple(acquisitions)

    def read(
        self, phrases: Sequence[Phrase], records: Sequence[Record] = (), which: Sequence[int] = ()
    ) -> dict[str, Tensor]:
        """What the query maker takes. The records are without effect."""
        categories = [self.categories.index(self.category(phrase)) for phrase in phrases]
        names = [self.acquisition(phrase) for phrase in phrases]
        acquisitions = [self.acquisitions.index(name) if name else -1 for name in names]
        return {"category": torch.tensor(categories), "acquisition": torch.tensor(acquisitions)}

    def category(self, phrase: Phrase) -> str:
        """The class that is asked for."""
        if phrase.category:
            return _known(phrase.category, self.categories, "class")
        return _named(phrase.text, self.categories) or _known(phrase.text, self.categories, "class")

    def acquisition(self, phrase: Phrase) -> str:
        """How the picture was made; "" if neither the phrase nor its words say so, and there are several."""
        if phrase.acquisition:
            return _known(phrase.acquisition, self.acquisitions, "acquisition")
        only = self.acquisitions[0] if len(self.acquisitions) == 1 else ""
        return _named(phrase.text, self.acquisitions) or only

    def notes(self, phrase: Phrase) -> tuple[str, ...]:
        """What the reader of an answer must know about how the phrase was read."""
        category, notes = self.category(phrase), []
        if _plain(phrase.text) != _plain(category):
            notes.append(f'read as the class "{category}"; the other words are not read')
        if self.acquisitions and not self.acquisition(phrase):
            notes.append("how the picture was made was not said: acquisition=")
        return tuple(notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form."""
        named = {"categories": list(self.categories), "acquisitions": list(self.acquisitions)}
        return {"kind": self.kind, **named}


class StateReader:
    """Reads a phrase before its record with the language model of a report generator -> states [m width]."""

    kind = "states"

    def __init__(self, reporter: ReportGenerator):
        self.reporter = reporter

    @property
    def schema(self) -> Schema:
        """What of a record the language model reads."""
        return self.reporter.schema

    def read(
        self, phrases: Sequence[Phrase], records: Sequence[Record], which: Sequence[int]
    ) -> dict[str, Tensor]:
        """which [m]: the record of each phrase."""
        from mmmed.models.language_states import states_of

        rows = list(dict.fromkeys(which))
        places = {row: [place for place, other in enumerate(which) if other == row] for row in rows}
        asked = [[phrases[place].text for place in places[row]] for row in rows]
        own = [records[row].only(*self.schema.modalities) for row in rows]
        width = self.reporter.network.words.embedding_dim
        found = [one.cpu() for one in states_of(self.reporter, own, asked)]
        states = torch.cat([torch.zeros(0, width), *found])
        order = torch.tensor([place for row in rows for place in places[row]], dtype=torch.long)
        return {"states": states[order.argsort()]}

    def notes(self, phrase: Phrase) -> tuple[str, ...]:
        """A language model knows every word."""
        return ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form; the generator has a folder of its own."""
        return {"kind": self.kind}


Reader = WordReader | ClassReader | StateReader


def learn_reader(
    query: Any, phrases: Sequence[Phrase], *, dim: int = 48, seed: int = 0
) -> tuple[Reader, nn.Module, dict[str, Any] | None]:
    """-> a reader, its query maker of width dim, and how to build that again (None if it came ready-made).

    query: "words" (options of `TextEncoder`: layers, heads, dropout), "classes" (rows: of `text_rows`, or a
    width for `hashed_rows`), "huggingface" (name, weights), alone or as a pair with its options; a
    `ReportGenerator`; a `ClassTable`; or a pair of a module that takes ids and mask and the Text it reads.
    phrases: those of the training patients; the vocabulary also has the opposites of their sides, heights and
    sizes. seed: of the first weights.
    """
    check_count(dim, name="dim")
    if hasattr(query, "finding_probabilities"):  # a ReportGenerator, which needs not be imported for that
        return _with_module(StateReader(query), {"name": "states", "options": {}}, dim, seed)
    if isinstance(query, ClassTable):
        return ClassReader(query.categories, query.acquisitions), query, None
    if isinstance(query, tuple) and len(query) == 2 and isinstance(query[0], nn.Module):
        if not isinstance(query[1], Text):
            raise ValueError(f"A ready module comes with the Text that it reads, got {plain(query[1])}.")
        return WordReader(query[1]), query[0], None
    if isinstance(query, nn.Module):
        raise ValueError("A ready module comes as a pair with the Text that it reads: query=(module, text).")
    name, options = named(query, "query")
    check_known(name, QUERIES, what="query")
    if name == "classes":
        reader: Reader = _classes_of(phrases)
    elif name == "words":
        reader = WordReader(Text("phrase", LENGTH, vocabulary_of(phrases)))
    else:
        reader = WordReader(Text("phrase", LENGTH, tokenizer=options.get("tokenizer", options.get("name"))))
    options = {key: value for key, value in options.items() if key != "tokenizer"}
    return _with_module(reader, {"name": name, "options": options}, dim, seed)


def unended(text: str) -> str:
    """A text without the stop at its end."""
    return text.rstrip(" .,:;!?")


def vocabulary_of(phrases: Sequence[Phrase]) -> tuple[str, ...]:
    """All words of the phrases, and those that say the opposite of a side, height or size among them."""
    texts = list(dict.fromkeys(unended(phrase.text) for phrase in phrases))
    twins = [other for text in texts for _, other in relation_swaps(text)]
    twins += [swap(text) for text in texts for swap in (swap_sides, swap_heights, swap_sizes)]
    return learn_vocabulary([*texts, *twins] * 2, PIECES)  # a word that is met once gets no piece of its own


def query_module(reader: Reader, description: Mapping[str, Any], dim: int, seed: int = 0) -> nn.Module:
    """The query maker of a description, with weights still to be learned or loaded."""
    name, options = description["name"], dict(description["options"])
    with seeded(seed):
        if name == "words":
            return TextEncoder.from_schema(reader.text, dim, **{"tokens": True, **options})
        if name == "huggingface":
            return HuggingFaceTextEncoder.from_schema(reader.text, dim, **{"tokens": True, **options})
        if name == "classes":
            if isinstance(rows := options.get("rows"), int):
                options["rows"] = hashed_rows(reader.categories, reader.acquisitions, rows)
            return ClassTable(reader.categories, reader.acquisitions, dim, **options)
        return StateQuery(reader.reporter.network.words.embedding_dim, dim)


def _with_module(
    reader: Reader, description: dict[str, Any], dim: int, seed: int
) -> tuple[Reader, nn.Module, dict[str, Any]]:
    try:
        module = query_module(reader, description, dim, seed)
    except TypeError as error:  # options that there are not
        raise ValueError(f"The query {description['name']!r} cannot be made: {error}.") from error
    kept = {key: value for key, value in description["options"].items() if key != "weights"}
    if "rows" in kept:  # a table that was read by a text tower comes back with the weights; here is its width
        kept["rows"] = module.rows.shape[2]
    return reader, module, {**description, "options": getattr(module, "rebuild", kept)}


def _classes_of(phrases: Sequence[Phrase]) -> ClassReader:
    categories = sorted({_plain(phrase.category) for phrase in phrases} - {""})
    if not categories:
        raise ValueError(
            "None of the phrases names its category, so there is no table of classes. Pass category= to "
            'phrases_of, or let the words be read: query="words".'
        )
    return ClassReader(categories, sorted({_plain(phrase.acquisition) for phrase in phrases} - {""}))


def _named(text: str, names: Sequence[str]) -> str:
    """The longest name that stands in a text as whole words; "" if none does."""
    words = "".join(letter if letter.isalnum() or letter in "-'" else " " for letter in text.lower())
    padded = f" {' '.join(words.split())} "
    return max((name for name in names if f" {_plain(name)} " in padded), key=len, default="")


def _known(name: str, names: Sequence[str], what: str) -> str:
    """The name in the table that is meant, as the table spells it: an article is no part of either."""
    meant = {_plain(one): one for one in reversed(names)}
    exact = " ".join(name.lower().split())
    return exact if exact in names else meant.get(_plain(name)) or check_known(_plain(name), names, what=what)


def _plain(name: str) -> str:
    """Lower case, single spaces, no article: as names of classes are kept."""
    clean = " ".join(name.lower().split()).rstrip(".")
    return next((clean.removeprefix(word) for word in ARTICLES if clean.startswith(word)), clean)
