"""Words of a report to ids and back: byte-level BPE learned from the training texts, or the tokenizer of a
hub model.

Every text has ids and every text comes back exactly, whatever its script, because the alphabet is the 256
bytes. Digits stand alone, so that 12 mm and 21 mm share their pieces. Text is data: "<eos>" typed in a note
or a question is five characters and never the end of the text. Source: byte pair encoding, Sennrich et al.,
arXiv:1508.07909, on bytes as in Radford et al. 2019 (GPT-2), learned by the `tokenizers` library.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmmed.checks import MissingFile, check_count, check_known, plain

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD, BOS, EOS, SEGMENT = SPECIAL = ("<pad>", "<bos>", "<eos>", "<seg>")  # numbers 0 to 3
FILE, SETTINGS = "tokenizer.json", "tokenizer_config.json"
LEAST = len(SPECIAL) + 256


def train_tokenizer(texts: Iterable[str], size: int = 1000) -> Tokenizer:
    """A byte-level BPE of at most `size` pieces: 4 special ones, 256 bytes, the rest learned.

    Give the texts of the training rows only. The same texts give the same pieces, in any order and in any
    process. Raises ValueError if there is no text or no room for the bytes.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer

    check_count(size, name="size", least=LEAST)
    counts = Counter(_characters(text) for text in texts)
    del counts[""]
    if not counts:
        raise ValueError("There is no text to learn a tokenizer from. Give the reports of the training rows.")
    trainer = BpeTrainer(
        vocab_size=size,
        min_frequency=2,
        special_tokens=list(SPECIAL),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer = _splitting()
    tokenizer.train_from_iterator(sorted(counts.elements()), trainer)
    return tokenizer


def _splitting() -> Tokenizer:
    """An untrained BPE on bytes. Letters, digits and signs are never in one piece, so that no learned piece
    can spell a special one."""
    from tokenizers import Tokenizer, decoders, models
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    tokenizer = Tokenizer(models.BPE())
    digits = Digits(individual_digits=True)
    tokenizer.pre_tokenizer = Sequence([digits, ByteLevel(add_prefix_space=False, use_regex=True)])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


class ReportTokenizer:
    """Text <-> ids, with the same methods for a tokenizer of our own and for one of a hub model.

    pad, bos, eos: ids of padding, begin and end. len(): how many rows of embeddings the ids need. Raises
    ValueError if the tokenizer has no such special piece, or reads special pieces in plain text.
    """

    def __init__(self, tokenizer: Tokenizer, pad: str = PAD, bos: str = BOS, eos: str = EOS):
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())  # ours: what follows changes its state
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True  # the library's name for: not parsed in text
        self._names = {"pad": pad, "bos": bos, "eos": eos}
        self.pad, self.bos, self.eos = (self._id(kind) for kind in self._names)
        self._size = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self._check_data_stays_data()

    @classmethod
    def from_transformers(cls, tokenizer: Any) -> ReportTokenizer:
        """Wrap a tokenizer of transformers. Its chat template is ignored; where it has no padding or no
        begin, its end stands in."""
        inner = getattr(tokenizer, "backend_tokenizer", None)
        if inner is None:
            raise ValueError(
                f"{type(tokenizer).__name__} has no fast form. Give one that comes with a tokenizer.json."
            )
        if tokenizer.eos_token is None:
            raise ValueError(f"{type(tokenizer).__name__} has no end of text, so no report would ever end.")
        eos = str(tokenizer.eos_token)
        return cls(inner, str(tokenizer.pad_token or eos), str(tokenizer.bos_token or eos), eos)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tokenizer.encode_special_tokens = True  # a copy of the library's object forgets it

    def __len__(self) -> int:
        return self._size

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without begin and end. Half of a surrogate pair, which is no character, is read
        as "?"."""
        return self._tokenizer.encode(_characters(text), add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """The text of some ids; special ones are left out."""
        return self._tokenizer.decode([int(index) for index in ids], skip_special_tokens=True)

    def fit(self, text: str, room: int, keep: str = "head") -> tuple[list[int], bool]:
        """The ids of a text, cut to `room`, and whether anything was cut. keep: "head" or "tail"."""
        check_known(keep, ("head", "tail"), what="end to keep")
        check_count(room, name="room", least=0)
        ids = self.encode(text)
        if len(ids) <= room:
            return ids, False
        return (ids[:room] if keep == "head" else ids[len(ids) - room :]), True

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write tokenizer.json and tokenizer_config.json, which `transformers.AutoTokenizer` reads too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        settings = {f"{kind}_token": name for kind, name in self._names.items()}
        settings |= {"tokenizer_class": "PreTrainedTokenizerFast", "padding_side": "left"}
        settings |= {"clean_up_tokenization_spaces": False, "split_special_tokens": True}
        self._tokenizer.save(str(folder / FILE))
        (folder / SETTINGS).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> ReportTokenizer:
        """Read what `save` wrote. Raises MissingFile, a ValueError, if a file is not there."""
        from tokenizers import Tokenizer

        folder = Path(folder)
        for name in (FILE, SETTINGS):
            if not (folder / name).is_file():
                raise MissingFile(f"No {name} in the folder {str(folder)!r}. Give that of a saved tokenizer.")
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        names = {kind: settings.get(f"{kind}_token") for kind in ("pad", "bos", "eos")}
        return cls(Tokenizer.from_file(str(folder / FILE)), **{k: _written(v) for k, v in names.items() if v})

    def _id(self, kind: str) -> int:
        index = self._tokenizer.token_to_id(self._names[kind])
        if index is None:
            raise ValueError(
                f"The tokenizer has no piece {plain(self._names[kind])} for {kind}. Name one that it has: "
                f"ReportTokenizer(tokenizer, {kind}=...)."
            )
        return index

    def _check_data_stays_data(self) -> None:
        special = {i: t.content for i, t in self._tokenizer.get_added_tokens_decoder().items() if t.special}
        read = [name for name in special.values() if set(self.encode(name)) & set(special)]
        if read:
            raise ValueError(
                f"This tokenizer reads {plain(read[0])} in plain text as a special piece, so a patient's "
                "note could end the report. Use a byte-level one, such as those of Llama 3, Qwen or SmolLM2."
            )


def _characters(text: str) -> str:
    if not isinstance(text, str):
        raise ValueError(f"A text should be a string, got {plain(text)}. Leave absent texts out.")
    return text.encode("utf-8", "replace").decode("utf-8")


def _written(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)
