"""A picture on the page: pixels as a PNG inside the page itself, an area as lines along its pixels.

numpy and PIL are imported when the first picture comes, so that a page of numbers does not wait for them.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

SIDE = 480  # pixels along the longer side of a picture that is drawn on; more would not be seen
SMALL = 360  # the same of one that only shows what was recorded


def data_uri(picture: Image | np.ndarray) -> str:
    """A PNG that stands in the page itself: no file is left on the server. picture: of PIL, or uint8 [height
    width], [height width 3] or [height width 4]."""
    import numpy as np
    from PIL import Image

    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(np.ascontiguousarray(picture))
    content = io.BytesIO()
    picture.save(content, format="PNG", compress_level=1)  # quick, as it is made at every move of a slider
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def grey(values: np.ndarray) -> Image:
    """A picture in 0..1, [channels height width] -> 8-bit PIL picture, at most SMALL pixels long."""
    import numpy as np
    from PIL import Image

    pixels = (255 * np.clip(values, 0, 1)).astype(np.uint8)
    shown = Image.fromarray(pixels[0] if len(pixels) != 3 else pixels.transpose(1, 2, 0))
    shown.thumbnail((SMALL, SMALL))
    return shown


def step_of(shape: tuple[int, ...]) -> int:
    """Every so many pixels are kept, so that the longer side is SIDE at most."""
    return max(1, -(-max(shape) // SIDE))


def runs(area: np.ndarray) -> str:
    """An SVG path of rectangles, one for each run of set pixels in a row. area: bool [height width]."""
    return "".join(f"M{start} {row}h{end - start}v1h{start - end}z" for row, start, end in _stretches(area))


def edges(area: np.ndarray) -> str:
    """An SVG path along every side of a set pixel that faces one that is not set."""
    import numpy as np

    wide = np.pad(area, 1)
    level = wide[1:, 1:-1] != wide[:-1, 1:-1]  # [height + 1, width]: lines above and below pixels
    upright = (wide[1:-1, 1:] != wide[1:-1, :-1]).T  # [width + 1, height]: lines left and right of them
    lines = [f"M{start} {row}h{end - start}" for row, start, end in _stretches(level)]
    return "".join(lines + [f"M{column} {start}v{end - start}" for column, start, end in _stretches(upright)])


def _stretches(lines: np.ndarray) -> list[tuple[int, int, int]]:
    """(row, first, one after the last) of each run of True, row by row."""
    import numpy as np

    change = np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(change == 1)
    ends = np.nonzero(change == -1)[1]
    return list(zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True))
