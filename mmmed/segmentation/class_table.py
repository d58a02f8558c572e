"""A question from a table: which kind of thing, in which kind of picture, where nobody writes a sentence.

Source: MulModSeg (Li et al., arXiv:2411.15576, sec. 3): the class and the modality of a picture as one
sentence, "there is a liver in this MR", read once by a frozen text tower and kept as a table. Differs: the
acquisition is said for each picture (the released code takes one for a whole batch), there may be any number
of them, each may stay unsaid, and rows may be learned, or made from the letters alone where no text tower is
at hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from mmmed.checks import check_count, check_known, check_shape, listing
from mmmed.types import Tokens

UNSAID = -1  # the index of what was not said


class ClassTable(nn.Module):
    """category [m] long, acquisition [m] long, each UNSAID (-1) where nobody said -> Tokens [m t dim].

    categories, acquisitions: their names in plain words. Without `rows` every name has a learned row, and so
    has "not said": one token of the category and, if there are acquisitions, one of the acquisition (t = 2).
    With rows [acquisitions + 1 categories + 1 width], the last of each being "not said" (`text_rows`,
    `hashed_rows`), they stay as they are, and a linear layer with ReLU makes one token of a pair (t = 1). A
    row that was never asked for in training knows nothing: leave the word out now and then, if it may be
    missing later. Raises ValueError for names that are there twice, and for indices outside the table.
    """

    def __init__(
        self,
        categories: Sequence[str],
        acquisitions: Sequence[str] = (),
        dim: int = 64,
        rows: Tensor | None = None,
    ):
        super().__init__()
        self.categories = _names(categories, "categories")
        self.acquisitions = _names(acquisitions, "acquisitions") if acquisitions else ()
        check_count(dim, name="dim")
        counts = {"acquisitions": len(self.acquisitions) + 1, "categories": len(self.categories) + 1}
        if rows is None:
            self.category = nn.Parameter(torch.randn(counts["categories"], dim))
            if self.acquisitions:
                self.acquisition = nn.Parameter(torch.randn(counts["acquisitions"], dim))
            self.rows = None
        else:
            hint = "The last of each is for what was not said; text_rows makes such a table."
            check_shape(rows, "acquisitions categories width", name="rows", hint=hint, **counts)
            # Text towers differ in the length of their vectors a hundredfold.
            self.register_buffer("rows", layer_norm(rows.detach().float(), rows.shape[2:]))
            self.linear = nn.Linear(rows.shape[2], dim)

    def forward(self, category: Tensor, acquisition: Tensor | None = None) -> Tokens:
        acquisition = torch.full_like(category, UNSAID) if acquisition is None else acquisition
        _check_index(category, self.categories, "category", len(category))
        _check_index(acquisition, self.acquisitions, "acquisition", len(category))
        # -1 counts from the end, where the row of what was not said lies
        if self.rows is not None:
            values = self.linear(self.rows[acquisition, category]).relu().unsqueeze(1)
        elif self.acquisitions:
            values = torch.stack([self.category[category], self.acquisition[acquisition]], dim=1)
        else:
            values = self.category[category].unsqueeze(1)
        return Tokens(values, values.new_ones(values.shape[:2], dtype=torch.bool))

    def find_categories(self, names: Sequence[str | None]) -> Tensor:
        """Names -> indices [m] long; "" and None are not said. An unknown name raises ValueError."""
        return _find(names, self.categories, "category")

    def find_acquisitions(self, names: Sequence[str | None]) -> Tensor:
        """Modality words -> indices [m] long; "" and None are not said. An unknown word raises ValueError."""
        return _find(names, self.acquisitions, "acquisition")


def text_rows(
    categories: Sequence[str], acquisitions: Sequence[str], encode: Callable[[list[str]], Tensor]
) -> Tensor:
    """Every pair as a sentence, read by a text tower: encode(k sentences) -> [k width] gives
    [acquisitions + 1 categories + 1 width]. The last of each is the sentence without that word."""
    things, pictures = [*categories, ""], [*acquisitions, ""]
    sentences = [sentence(thing, picture) for picture in pictures for thing in things]
    with torch.no_grad():
        rows = encode(sentences)
    check_shape(rows, "sentences width", name="what encode gives", sentences=len(sentences))
    return rows.unflatten(0, (len(pictures), len(things)))


def sentence(category: str, acquisition: str) -> str:
    """The sentence of the paper; the empty word leaves it open."""
    return f"there is {f'a {category}' if category else 'something'} in this {acquisition or 'picture'}"


def hashed_rows(categories: Sequence[str], acquisitions: Sequence[str], width: int = 64) -> Tensor:
    """Like `text_rows`, without any text tower: a row is the sum of its words, and a word is `width` signs,
    the bits of its SHAKE-128. The same everywhere, and "left lung" is near "right lung"."""
    rows = [
        torch.stack([hashed_words(f"{thing} {picture}", width) for thing in (*categories, "")])
        for picture in (*acquisitions, "")
    ]
    return torch.stack(rows)


def hashed_words(text: str, width: int) -> Tensor:
    """Sum over the words (lower case) of `width` signs each: [width]. No word at all has signs as well."""
    check_count(width, name="width")
    total = torch.zeros(width)
    for word in text.lower().split() or [""]:
        bits = int.from_bytes(hashlib.shake_128(word.encode()).digest(-(-width // 8)), "little")
        total += torch.tensor([(bits >> k & 1) * 2.0 - 1 for k in range(width)])
    return total


def _names(names: Sequence[str], what: str) -> tuple[str, ...]:
    clean = tuple(_plain(name) for name in names)
    if not clean or "" in clean or len(set(clean)) != len(clean):
        raise ValueError(f"{what} should be different names, at least one, got {listing(names)}.")
    return clean


def _check_index(index: Tensor, names: tuple[str, ...], what: str, m: int) -> None:
    check_shape(index, "m", name=what, m=m, hint="One index for each phrase.")
    if m and not UNSAID <= int(index.min()) <= int(index.max()) < len(names):
        raise ValueError(
            f"{what} should hold indices from {UNSAID} (not said) to {len(names) - 1}, got "
            f"{int(index.min())} to {int(index.max())}. Known: {listing(names)}."
        )


def _plain(name: str | None) -> str:
    return " ".join((name or "").lower().split())


def _find(names: Sequence[str | None], known: tuple[str, ...], what: str) -> Tensor:
    plain = [_plain(name) for name in names]
    found = [known.index(check_known(name, known, what=what)) if name else UNSAID for name in plain]
    return torch.tensor(found, dtype=torch.long)
