"""Words to numbers: a WordPiece vocabulary learned from the training rows, or a tokenizer from a Hugging Face
folder.

The vocabulary is a plain list of pieces and lives in the schema, so a saved model reads text without any
other file. Source: greedy longest-match pieces as in WordPiece (Schuster and Nakajima 2012,
doi:10.1109/ICASSP.2012.6289079), split by the `tokenizers` library. Differs: the vocabulary is whole words
and single characters, nothing between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.checks import MissingFile, check_count
from mmmed.types import Text

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor

PAD, UNKNOWN = "[PAD]", "[UNK]"  # numbers 0 and 1


def learn_vocabulary(texts: Iterable[str], size: int = 1000) -> tuple[str, ...]:
    """The special pieces, every character, and the most frequent words of the texts: `size` pieces at most.

    A word outside the list is spelled in characters; only a word with a character that no text had, or longer
    than 100, is unknown as a whole. The same texts give
    the same vocabulary, in any order. (The library's own WordPiece trainer breaks ties at random, run by
    run.)
    """
    check_count(size, name="size", least=8)
    splitter = _splitting(_word_piece({PAD: 0, UNKNOWN: 1}))
    words: Counter[str] = Counter()
    for text in texts:
        clean = splitter.normalizer.normalize_str(text)
        words.update(word for word, _ in splitter.pre_tokenizer.pre_tokenize_str(clean))
    letters: Counter[str] = Counter()
    for word, count in words.items():
        for letter in word:
            letters[letter] += count
            if letter.isalpha():  # also where it has not been seen yet: inside a word, or at its start
                letters["##" + letter] += count
    pieces = [PAD, UNKNOWN, *_most_frequent(letters, size - 2)]
    repeated = Counter({word: count for word, count in words.items() if count > 1 and word not in letters})
    return (*pieces, *_most_frequent(repeated, size - len(pieces)))


def _most_frequent(counts: Counter[str], size: int) -> list[str]:
    """The `size` most frequent, ties in alphabetical order."""
    return sorted(counts, key=lambda piece: (-counts[piece], piece))[: max(size, 0)]


def tokenize(texts: Sequence[str], modality: Text) -> tuple[Tensor, Tensor]:
    """Texts -> ids [n length] long and mask [n length] bool, padded to the longest and cut at
    `modality.length`."""
    import torch

    tokenizer = tokenizer_of(modality)
    encoded = [encoding.ids[: modality.length] or [1] for encoding in tokenizer.encode_batch(list(texts))]
    longest = max(len(ids) for ids in encoded)
    ids = torch.zeros(len(encoded), longest, dtype=torch.long)
    mask = torch.zeros(len(encoded), longest, dtype=torch.bool)
    for row, pieces in enumerate(encoded):
        ids[row, : len(pieces)] = torch.tensor(pieces)
        mask[row, : len(pieces)] = True
    return ids, mask


@lru_cache(maxsize=16)
def tokenizer_of(modality: Text) -> Tokenizer:
    """The tokenizer that a schema describes. Raises ValueError if it has neither a vocabulary nor a
    tokenizer."""
    if modality.tokenizer is not None:
        return _from_hugging_face(modality.tokenizer)
    if not modality.vocabulary:
        raise ValueError(
            f"The text modality of column {modality.column!r} has no vocabulary yet. Learn one from "
            "training rows with "
            "cohort.refit(), or name a Hugging Face tokenizer: Text(column, tokenizer=...)."
        )
    return _splitting(_word_piece({piece: index for index, piece in enumerate(modality.vocabulary)}))


def _word_piece(vocabulary: dict[str, int]) -> Any:
    from tokenizers.models import WordPiece

    return WordPiece(vocabulary, unk_token=UNKNOWN, max_input_chars_per_word=100)


def _splitting(model: Any) -> Tokenizer:
    """Lower case, split at blanks and punctuation, digits one by one (so 12 mm and 21 mm share their
    pieces)."""
    from tokenizers import Tokenizer
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer, Digits, Sequence

    tokenizer = Tokenizer(model)
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = Sequence([BertPreTokenizer(), Digits(individual_digits=True)])
    return tokenizer


def _from_hugging_face(name: str) -> Tokenizer:
    """`tokenizer.json` of a folder, or of a hub name that is in the local cache already. Never downloads."""
    from huggingface_hub import try_to_load_from_cache
    from tokenizers import Tokenizer

    found = Path(name) / "tokenizer.json"
    if not found.is_file():
        cached = try_to_load_from_cache(name, "tokenizer.json") if not Path(name).exists() else None
        if not isinstance(cached, str):
            raise MissingFile(
                f"No tokenizer.json in the folder {name!r}, and no hub model of that name in the local "
                "cache. Give a "
                "folder that holds one, or fetch it first with huggingface_hub.snapshot_download."
            )
        found = Path(cached)
    tokenizer = Tokenizer.from_file(str(found))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
