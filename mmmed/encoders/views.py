"""Several views of one examination: encoded one by one, where there is one, and laid out side by side as
tokens."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from mmmed.checks import check_shape
from mmmed.types import Tokens


def check_views(pixels: Tensor, views: Tensor, channels: int) -> None:
    """Raise ValueError unless pixels is [n views channels height width], views [n views], and every row has a
    view."""
    check_shape(
        pixels,
        "n views channels height width",
        name="pixels",
        channels=channels,
        hint="Grey pictures have 1 channel, colour pictures 3; the schema's Image(channels=...) says which.",
    )
    check_shape(views, "n views", name="views", n=pixels.shape[0], views=pixels.shape[1])
    if not bool(views.any(1).all()):
        raise ValueError("A row of views is all False. Leave rows without a picture out of the batch.")


def check_size(pixels: Tensor, size: tuple[int, int], what: str = "network") -> None:
    """Raise ValueError unless pixels [n views channels height width] have the size that a network was built
    for."""
    check_shape(
        pixels,
        "n views channels height width",
        name="pixels",
        height=size[0],
        width=size[1],
        hint=f"The {what} was built for this size; build it anew for another.",
    )


def encode_views(pixels: Tensor, views: Tensor, encode: Callable[[Tensor], Tensor]) -> Tokens:
    """Run `encode` ([pictures channels height width] -> [pictures tokens dim]) on the real views, and on no
    others.

    pixels [n views channels height width], views [n views] bool -> values [n views*tokens dim], mask [n
    views*tokens]; where there is no view the values are 0 and the mask is False.
    """
    if bool(views.all()):
        encoded = encode(pixels.flatten(0, 1))  # [n*views tokens dim]
        values = encoded.unflatten(0, views.shape)
    else:
        encoded = encode(pixels[views])  # [pictures tokens dim]
        values = encoded.new_zeros(*views.shape, *encoded.shape[1:])
        values[views] = encoded
    mask = views.unsqueeze(2).expand(values.shape[:3])
    return Tokens(values.flatten(1, 2), mask.flatten(1, 2))
