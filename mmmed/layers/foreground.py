"""Grey values without a unit, made comparable: standardised over what is not air."""

from __future__ import annotations

from torch import Tensor

AIR = 0.1  # in units of the standardised picture: what lies this close to the darkest value is air
LOW, HIGH = -3.0, 5.0


def foreground_norm(pictures: Tensor) -> Tensor:
    """Each channel of each picture or volume minus its mean, over its standard deviation, both of the
    foreground; cut at -3 and 5. [n channels *space] -> the same shape.

    MR signal has no unit: one scanner's grey matter is another's fat (Reinhold et al., arXiv:1812.04652,
    sec. 2.1). A picture without foreground becomes 0.
    """
    flat = pictures.flatten(2)
    inside = (flat > flat.amin(2, keepdim=True) + AIR).to(flat.dtype)
    count = inside.sum(2, keepdim=True)
    mean = (flat * inside).sum(2, keepdim=True) / count.clamp(min=1)
    spread = (((flat - mean) * inside).square().sum(2, keepdim=True) / count.clamp(min=1)).sqrt()
    normal = ((flat - mean) / spread.clamp(min=1e-3)).clamp(LOW, HIGH) * (count > 0)
    return normal.view_as(pictures)
