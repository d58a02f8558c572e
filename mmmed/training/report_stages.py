"""The stages in which a report generator learns: to see findings, to put them into words, to write as others
do.

Trained at once, such a model becomes a language model that never looks at the patient, behind a loss curve
that looks perfect: the words alone lower the loss first, and then nothing is left that would make it look. So
the encoders learn the findings that a labeller reads out of the training reports before any word is learned.
LLaVA-Rad (arXiv:2403.08002) aligns, then adapts by LoRA; the first stage is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from math import inf
from typing import TYPE_CHECKING, Any

from mmmed.checks import check_count, check_known, check_share, listing, plain
from mmmed.language.global_local_adapter import GlobalLocalAdapter
from mmmed.language.language_model import is_named
from mmmed.language.lora import has_lora
from mmmed.language.mixture_adapter import MixtureAdapter
from mmmed.training.optimisation import PRECISIONS

if TYPE_CHECKING:
    from mmmed.models.report_generator import ReportGenerator
    from mmmed.models.report_network import ReportNetwork

PARTS = ("encoders", "finding head", "fusion", "adapters", "language model", "lora")
LEARNS = ("findings", "words")
VIEWS = {GlobalLocalAdapter: ("global", "local"), MixtureAdapter: ("mlp", "resampler")}


@dataclass(frozen=True)
class Stage:
    """One stage. learns: "findings" (weak labels of the reports) or "words" (the reports).

    trains: parts of the network, among encoders, finding head, fusion, adapters, language model, lora, and
    "encoder:NAME" for one modality alone; everything else rests. lr, batch_size, weight_decay, warmup, clip:
    of AdamW with a cosine. dropout: share of the modalities that is hidden from each record in each epoch,
    never its last one. asides: chance that a record is also asked for one topic or one question. views: which
    part of an adapter with several is used, such as ("global", "mlp"); nothing = all of them (SliME's
    alternating training, arXiv:2406.08487, sec. 3.3). precision: "fp32", or "bf16" for autocast.
    """

    name: str
    epochs: int
    trains: tuple[str, ...]
    learns: str = "words"
    lr: float = 2e-3
    batch_size: int = 32
    weight_decay: float = 0.01
    warmup: float = 0.1
    clip: float = 1.0
    dropout: float = 0.3
    asides: float = 0.5
    views: tuple[str, ...] = ()
    precision: str = "fp32"

    def __post_init__(self) -> None:
        object.__setattr__(self, "trains", _names(self.trains))
        check_count(self.epochs, name=f"Stage {self.name!r}: epochs")
        check_count(self.batch_size, name=f"Stage {self.name!r}: batch_size")
        check_known(self.learns, LEARNS, what="thing to learn")
        object.__setattr__(self, "views", _names(self.views))
        for view in self.views:
            check_known(view, [one for views in VIEWS.values() for one in views], what="view")
        check_known(self.precision, PRECISIONS, what="precision")
        for name in ("dropout", "asides", "warmup"):
            check_share(getattr(self, name), name=name)
        for part in self.trains:
            if not part.startswith("encoder:"):
                check_known(part, PARTS, what="part to train")
        if not self.trains:
            raise ValueError(f"Stage {self.name!r} trains nothing. Name parts, among {listing(PARTS)}.")
        for name, most in (("lr", 1.0), ("weight_decay", inf), ("clip", inf)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < most:
                raise ValueError(
                    f"{name} should be a number from 0 {'up' if most == inf else f'to {most:g}'}, "
                    f"got {plain(value)}."
                )

    def facts(self) -> dict[str, Any]:
        """JSON-ready settings."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "trains": list(self.trains), "views": list(self.views)}


def _names(given: Sequence[str]) -> tuple[str, ...]:
    return (given,) if isinstance(given, str) else tuple(given)


def default_stages(
    reporter: ReportGenerator, epochs: int | None = None, records: int | None = None
) -> tuple[Stage, ...]:
    """The stages for a generator as it is. epochs: of the last stage. records: that have a report to learn;
    with few of them batches are smaller, so that an epoch still has some updates.

    findings, where there is a table of findings; then, for a language model from scratch, one stage in which
    adapters and language model learn to write; for one that can write already, align (adapters alone) and
    lora (adapters and LoRA). Encoders that no finding has trained learn along with the adapters. A generator
    with adapters of a global and a local view trains the views one after the other before both.
    """
    network, stages = reporter.network, []
    if network.finding_head is not None and not reporter.blind:
        stages.append(Stage("findings", 15, ("encoders", "finding head"), "findings", lr=3e-3, batch_size=64))
    shown = {} if network.finding_head is None else network.finding_head.shown
    unseen = () if reporter.blind else tuple(f"encoder:{n}" for n in reporter.modalities if n not in shown)
    fused = ("fusion",) if network.fusion is not None else ()
    adapters = ("adapters", *fused, *unseen)
    if is_named(network.language_model) or has_lora(network.language_model):
        stages += _by_views(network, adapters, 1, 1e-3)
        stages.append(Stage("align", 3, adapters, lr=1e-3))
        return (*stages, Stage("lora", 3 if epochs is None else epochs, (*adapters, "lora"), lr=2e-4))
    words = (*adapters, "language model")
    stages += _by_views(network, words, 2, 2e-3)
    stages = [*stages, Stage("align", 10 if epochs is None else epochs, words)]
    return tuple(stage if records is None else _in_batches(stage, records) for stage in stages)


def _in_batches(stage: Stage, records: int) -> Stage:
    """The same stage in about sixty batches an epoch, or thirty for findings; of at least 8, and never larger
    than the stage's own."""
    size = records // (30 if stage.learns == "findings" else 60)
    return replace(stage, batch_size=min(stage.batch_size, max(8, size)))


def _by_views(network: ReportNetwork, trains: tuple[str, ...], epochs: int, lr: float) -> list[Stage]:
    """Alternating training, where an adapter has several views: each alone before all together."""
    kinds = {type(module) for module in network.adapters.modules() if type(module) in VIEWS}
    orders = {
        frozenset(): (),
        frozenset({MixtureAdapter}): (("mlp",), ("resampler",)),
        frozenset({GlobalLocalAdapter}): (("global",), ("local",)),
    }
    full = (("global", "mlp"), ("global", "resampler"), ("local",))
    views = orders.get(frozenset(kinds), full)
    return [Stage(f"align {' '.join(view)}", epochs, trains, lr=lr, views=view) for view in views]


def set_views(network: ReportNetwork, views: Sequence[str]) -> None:
    """Let every adapter with several views use those of a stage; all of its own where none is named."""
    for module in network.adapters.modules():
        own = VIEWS.get(type(module))
        if own is not None:
            module.use(next((view for view in views if view in own), "both"))


def check_stages(stages: Sequence[Stage], reporter: ReportGenerator) -> tuple[Stage, ...]:
    """Raise ValueError for stages that this generator cannot go through."""
    stages = tuple(stages)
    if not stages or not all(isinstance(stage, Stage) for stage in stages):
        raise ValueError(f"stages should be a list of Stage, got {plain(stages)}.")
    names = [stage.name for stage in stages]
    if len(set(names)) < len(names):  # chance, the gap and the account of a run go by the name
        raise ValueError(f"Every stage needs a name of its own, got {listing(names)}.")
    for stage in stages:
        if stage.learns == "findings" and reporter.network.finding_head is None:
            raise ValueError(
                f"Stage {stage.name!r} learns findings, but the generator was made without a table of "
                "findings."
            )
        for part in stage.trains:
            if part.startswith("encoder:"):
                check_known(part.removeprefix("encoder:"), reporter.modalities, what="encoder")
    return stages
