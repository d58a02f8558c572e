"""ReferringSegmenter: words and a picture, or some sequences of a volume -> a mask, or "not there".

    segmenter = ReferringSegmenter.from_cohort(cohort)
    mmmed.finetune(segmenter, cohort, output="runs/masks")
    segmenter.segment(cohort["test"][0], ["the nodule on the left", "the effusion"])

Source: LSMS (arXiv:2408.17347) for words that meet pixels at every scale; its parts are named in
`mmmed.segmentation`. Differs: what is not there is a first-class answer, each mask lies on the grid of the
picture as it came, and any subset of a volume's sequences is enough.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_count, check_share, listing, plain
from mmmed.data.phrases import phrases_of
from mmmed.models.phrase_reader import Reader, StateReader, learn_reader
from mmmed.models.segment_records import (
    Asking,
    as_record,
    checked_phrases,
    checked_spacing,
    segment_records,
)
from mmmed.models.segmentation_create import check_pictures, create_network
from mmmed.models.segmentation_network import SegmentationNetwork
from mmmed.types import Image, Mask, Record, Report, Schema, Volume

if TYPE_CHECKING:
    import torch

    from mmmed.data.cohort import Cohort


class ReferringSegmenter:
    """Draws what phrases ask for; made by `from_cohort`, trained by `mmmed.finetune`.

    network: the part with weights. schema: how the pictures are read; only those in `modalities` are kept.
    reader: phrases to what the network takes (`mmmed.models.phrase_reader`). modalities: the picture, or the
    sequences, that are drawn on. threshold: the probability from which on a thing counts as there. card:
    measured facts for the model card.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        schema: Schema,
        reader: Reader,
        modalities: Sequence[str] | None = None,
        threshold: float = 0.5,
    ):
        self.network, self.reader = network, reader
        modalities = tuple(network.modalities if modalities is None else modalities)
        if modalities != network.modalities:
            raise ValueError(
                f"The network draws on {listing(network.modalities)}, so modalities cannot be "
                f"{listing(modalities)}."
            )
        check_pictures(schema, modalities, network.by_slice)
        self.schema = only_pictures(schema, modalities)
        self.threshold = check_share(threshold, name="threshold")
        self.config: dict[str, Any] = {}
        self.card: dict[str, Any] = {}
        self.network.eval()

    @classmethod
    def from_cohort(
        cls,
        cohort: Cohort,
        phrases: Any = None,
        *,
        modalities: Sequence[str] | str | None = None,
        pyramid: Any = "small",
        fusion: Any = "film",
        query: Any = "words",
        width: int = 32,
        dim: int = 48,
        by_slice: bool | None = None,
        weak: bool = False,
        seed: int = 0,
    ) -> ReferringSegmenter:
        """A segmenter for the pictures of a cohort, not yet trained.

        phrases: what it will be taught, as `mmmed.data.phrases.phrases_of` takes them; left out, those that
        come with the cohort. Only the words about training patients are learned. modalities: the picture, or
        sequences of one size; left out, the schema's only Image, else all its Volumes. query: how phrases are
        read, see `mmmed.models.phrase_reader.learn_reader`. pyramid, fusion, width, dim, weak: see
        `mmmed.models.segmentation_create.create_network`; weak learns from presence alone, and then draws
        what speaks for it. by_slice: volumes are drawn slice by slice; None = only where the pyramid needs
        it. seed: of the random first weights.

        Raises ValueError if there is no picture or no phrase, and for parts that do not fit.
        """
        names = _pictures(cohort.schema, modalities)
        kind = check_pictures(cohort.schema, names, bool(by_slice))
        if by_slice is None:
            seen_by = pyramid if isinstance(pyramid, str) else pyramid[0]
            by_slice = kind is Volume and str(seen_by).startswith("timm:")
        told = phrases_of(cohort["train"], phrases, whole=True)
        reader, module, described = learn_reader(query, told, dim=dim, seed=seed)
        network, config = create_network(
            cohort.schema,
            names,
            query=module,
            dim=dim,
            pyramid=pyramid,
            fusion=fusion,
            width=width,
            by_slice=by_slice,
            weak=weak,
            seed=seed,
        )
        made = cls(network, cohort.schema, reader, names)
        made.config = {**config, "query": described}
        return made

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the pictures that are drawn on, in order."""
        return self.network.modalities

    @property
    def weak(self) -> bool:
        """Whether it learned from presence alone."""
        return self.network.decoder.weak

    def to(self, device: torch.device | str) -> ReferringSegmenter:
        """The same segmenter, moved to a device; with the language model that reads its phrases."""
        self.network.to(device)
        if isinstance(self.reader, StateReader):
            self.reader.reporter.network.to(device)
        return self

    # ------------------------------------------------------------------------------------------------ asking

    def segment(
        self,
        record: Any,
        phrases: str | Sequence[str],
        *,
        spacing: Sequence[float] | None = None,
        acquisition: str = "",
        threshold: float | None = None,
    ) -> Any:
        """A text -> its Mask; several -> a list, in order. The picture is seen once for all of them.

        record: a Record, a table row as a dict, or the picture itself (path, array, PIL image), if there is
        but one. spacing: mm per pixel of the picture as it came, (row, column) or (depth, row, column); left
        out, what its file says. acquisition: how it was made, for a table of classes. threshold: instead of
        the segmenter's.

        A mask lies on the picture's own grid; of a NIfTI volume, in the orientation in which it is read
        (`mmmed.data.volumes`). Below the threshold of presence it is empty: there is no such thing. Drawn
        slice by slice, presence is the largest over the slices, and those below the threshold stay empty.
        Without a picture, or with one that has one value everywhere, every mask is empty, with a note.
        Raises ValueError for a phrase without words and for what cannot be read as a record; a picture given
        as such must be readable.
        """
        known, given = as_record(record, self.schema, self.reader.schema)
        asked = checked_phrases(phrases)
        how = Asking(
            self._threshold(threshold),
            acquisition,
            checked_spacing(spacing, self.schema, self.modalities[0]),
            strict=given,
        )
        (masks,) = segment_records(self, [known], [asked], how)
        return masks[0] if isinstance(phrases, str) else masks

    def iterate(
        self,
        records: Iterable[Any],
        phrases: Iterable[Sequence[str]],
        batch: int = 16,
        *,
        acquisition: str = "",
        threshold: float | None = None,
    ) -> Iterator[list[Mask]]:
        """One list of masks per record, for as many records as there are: only `batch` of them are held.

        records: a cohort, or records as `segment` takes them. phrases: one list per record. The masks of a
        record do not depend on the others.
        """
        check_count(batch, name="batch")
        if isinstance(records, (str, Record, Mapping)) or not hasattr(records, "__iter__"):
            raise ValueError(f"iterate takes several records, got {plain(records)}. Use segment for one.")
        found = (as_record(record, self.schema, self.reader.schema)[0] for record in records)
        return segment_records(self, found, phrases, Asking(self._threshold(threshold), acquisition), batch)

    def point(
        self, record: Any, report: Report | str | Sequence[str], *, spacing: Sequence[float] | None = None
    ) -> list[Mask]:
        """Show me where: a mask for each sentence of a report, in its order.

        report: a `Report`, a text, or sentences. A sentence is asked as it stands; whether one that denies a
        thing comes out as "not there" depends on what the segmenter was taught.
        """
        from mmmed.models.pointing import asked_of

        return self.segment(record, asked_of(report), spacing=spacing)

    def _threshold(self, given: float | None) -> float:
        return self.threshold if given is None else check_share(given, name="threshold")

    # ------------------------------------------------------------------------------------------------ saving

    def save_pretrained(self, folder: str | os.PathLike[str]) -> None:
        """Write config, schema, phrases, weights (safetensors) and model card; whole or not at all."""
        from mmmed.models.segmenter_files import save_segmenter

        save_segmenter(self, folder)

    def push_to_hub(self, repository: str, private: bool = True) -> str:
        """Upload what `save_pretrained` writes to the Hugging Face Hub. Reaches the network; -> address."""
        from mmmed.models.files import push_model

        return push_model(self, repository, private=private)

    @classmethod
    def from_pretrained(
        cls, folder: str | os.PathLike[str], parts: Mapping[str, Any] | None = None
    ) -> ReferringSegmenter:
        """Read what `save_pretrained` wrote; see `mmmed.load_model`."""
        from mmmed.models.segmenter_files import read_segmenter

        return read_segmenter(folder, parts)

    def __repr__(self) -> str:
        weights = sum(p.numel() for p in self.network.parameters())
        return (
            f"ReferringSegmenter(draws on {listing(self.modalities)}; reads {self.reader.kind}; "
            f"{weights:,} parameters{'; weak' * self.weak})"
        )


def only_pictures(schema: Schema, modalities: Sequence[str]) -> Schema:
    """The schema with these modalities alone, in this order, and without tasks."""
    kept = {name: schema.modalities[name] for name in modalities}
    return Schema(kept, group=schema.group, id=schema.id)


def _pictures(schema: Schema, modalities: Sequence[str] | str | None) -> tuple[str, ...]:
    """What is drawn on. Raises ValueError if the schema does not tell."""
    if modalities is not None:
        return (modalities,) if isinstance(modalities, str) else tuple(modalities)
    images = tuple(name for name, one in schema.modalities.items() if isinstance(one, Image))
    volumes = tuple(name for name, one in schema.modalities.items() if isinstance(one, Volume))
    if len(images) > 1:
        raise ValueError(f"Which picture is drawn on? There are {listing(images)}: name it by modalities=.")
    if not images and not volumes:
        raise ValueError(
            "A segmenter draws on a picture or a volume, and this cohort has neither. Open it with image= or "
            "volume=."
        )
    return images or volumes
