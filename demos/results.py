"""What a visitor asks for by a button, and whether it still speaks of what is on the page.

Such an answer takes seconds. Meanwhile another patient may have been chosen, or a switch been moved: it is
put on the page only for the visit that asked for it, and says so, or goes, when its inputs have changed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .answers import Visit
from .cast import Cast
from .kept import as_json
from .pictures import pictured

KINDS = ("heat", "masks", "report", "where", "reply")
OUTDATED = '<p class="mm-stale">This was about other inputs. Ask again for what is on now.</p>'


@dataclass(frozen=True)
class Result:
    """token: of the visit that asked. basis: what the answer rests on (see `basis_of`). content: the answer
    itself; of "where" the place of the sentence. html: as it is shown."""

    token: str
    kind: str
    basis: str
    content: Any = None
    html: str = ""


def basis_of(cast: Cast, visit: Visit, kind: str) -> str:
    """A key for what an answer of this kind would rest on now: equal bases, equal answer."""
    seen = visit.record.only(*visit.on)
    if kind in ("masks", "where"):
        seen = seen.only(*pictured(cast))
    parts = [as_json(seen), visit.task if kind == "heat" else ""]
    if kind == "where":  # a sentence of a report about everything
        parts.append(as_json(visit.record.only(*visit.on)))
    return json.dumps(parts)


def fresh(cast: Cast, visit: Visit, kind: str) -> Result | None:
    """The last answer of a kind, if it still speaks of what is on the page."""
    result = visit.results.get(kind)
    return result if result is not None and result.basis == basis_of(cast, visit, kind) else None
