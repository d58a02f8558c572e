"""How well a segmenter does on phrases it was not taught, on the model's own grid: a look after each
epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mmmed.models.inference import asking
from mmmed.segmentation.feature_pyramid import resize
from mmmed.training.mask_lessons import Lessons
from mmmed.training.mask_loop import words_of

if TYPE_CHECKING:
    from mmmed.models.referring_segmenter import ReferringSegmenter

MOST = 400  # phrases that are looked at, spread over the records
CHUNK = 16  # records at a time


def validate(segmenter: ReferringSegmenter, lessons: Lessons) -> dict[str, float | None]:
    """val_dice: mean Dice of the phrases whose target is drawn; val_found: share of what is there for which
    the presence says so; val_empty: share of the empty targets whose mask is empty. None where there is no
    such phrase. By slice, a volume counts as one picture."""
    chosen = torch.cat([_spread(lessons.there), _spread(~lessons.there)]).sort().values
    rows = lessons.row[chosen].unique()
    dice, found, empty = [], [], []
    with asking(segmenter.network):
        for part in rows.split(CHUNK):
            places = chosen[torch.isin(lessons.row[chosen], part)]
            masks, present = _masks(segmenter, lessons, part, places)
            target = lessons.target(places) > 0.5
            there, drawn = lessons.there[places], lessons.region[places] >= 0
            overlap = (masks & target).flatten(1).sum(1)
            both = masks.flatten(1).sum(1) + target.flatten(1).sum(1)
            dice.append((2 * overlap / both.clamp(min=1))[there & drawn])
            found.append(present[there].float())
            empty.append((~masks.flatten(1).any(1))[~there].float())
    scores = {"val_dice": torch.cat(dice), "val_found": torch.cat(found), "val_empty": torch.cat(empty)}
    return {name: float(values.mean()) if len(values) else None for name, values in scores.items()}


def quality(scores: Mapping[str, float | None]) -> float | None:
    """By what the best epoch is chosen: the mean of Dice (of what was found, where nothing is drawn) and of
    the empty targets that stay empty; None where nothing is known."""
    drawn = scores.get("val_dice")
    known = [drawn if drawn is not None else scores.get("val_found"), scores.get("val_empty")]
    known = [score for score in known if score is not None]
    return sum(known) / len(known) if known else None


def best_threshold(segmenter: ReferringSegmenter, lessons: Lessons) -> float:
    """The threshold of presence at which most of what is there is found and most of what is not stays empty,
    each kind counting as a half; in the middle of all that are equally good, and the present one if only one
    kind is known."""
    chosen = torch.cat([_spread(lessons.there), _spread(~lessons.there)]).sort().values
    there = lessons.there[chosen]
    if bool(there.all()) or not bool(there.any()):
        return segmenter.threshold
    rows, values = lessons.row[chosen].unique(), torch.empty(len(chosen))
    with asking(segmenter.network):
        for part in rows.split(CHUNK):
            here = torch.isin(lessons.row[chosen], part)
            values[here] = _drawn(segmenter, lessons, part, chosen[here])[1].flatten(1).amax(1)
    cuts = torch.linspace(0.05, 0.95, 91)
    found = (values[there] >= cuts[:, None]).float().mean(1)
    empty = (values[~there] < cuts[:, None]).float().mean(1)
    good = found + empty
    best = cuts[good > good.max() - 1e-6]
    return round(float(best[len(best) // 2]), 3)


def _spread(wanted: Tensor) -> Tensor:
    """Places of at most half of `MOST` phrases, evenly over those that are wanted."""
    places = wanted.nonzero()[:, 0]
    count = min(len(places), MOST // 2)
    return places[torch.linspace(0, max(len(places) - 1, 0), count).long()]


def _masks(
    segmenter: ReferringSegmenter, lessons: Lessons, part: Tensor, places: Tensor
) -> tuple[Tensor, Tensor]:
    """Masks of phrases, bool [m *size], empty where presence falls below the threshold, and [m] bool: whether
    it does not, in any slice."""
    inside, presence = _drawn(segmenter, lessons, part, places)
    there = presence >= segmenter.threshold  # [m slices], or [m 1]
    slices = there if segmenter.network.by_slice else there[:, 0]
    masks = inside & slices.view(*slices.shape, *(1,) * (inside.ndim - slices.ndim))
    return masks, there.any(1)


def _drawn(
    segmenter: ReferringSegmenter, lessons: Lessons, part: Tensor, places: Tensor
) -> tuple[Tensor, Tensor]:
    """What is drawn, bool [m *size], whatever its presence, and the presence [m 1], or [m slices]."""
    network, device = segmenter.network, segmenter.network.device
    supply = lessons.supply
    batch = next(iter(supply.batches([(part, supply.present[part])]))).to(device)
    values, rows, count = network.inputs_of(batch)
    depth = count // len(part)
    seen = network.see(values, rows, count)
    words = words_of(segmenter, lessons, [(k, lessons.phrases[k].text) for k in places.tolist()], device)
    which = torch.searchsorted(part, lessons.row[places]).to(device)
    grid = tuple(next(iter(values.values())).shape[2:])
    if network.by_slice:
        repeated = torch.arange(len(places), device=device).repeat_interleave(depth)
        which = (which[:, None] * depth + torch.arange(depth, device=device)).flatten()
        words = words[repeated]
    drawing = network.draw(seen, words, which)
    presence = drawing.presence.sigmoid().unflatten(0, (len(places), -1)).cpu()
    inside = (resize(drawing.logits, grid).squeeze(1) > 0).cpu()
    return inside.unflatten(0, (len(places), depth)) if network.by_slice else inside, presence
