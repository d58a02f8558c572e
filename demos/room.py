"""How much of the disk visitors may fill: all together, and each address.

What is still on its way counts as if it were there, so that uploads at the same time do not pass together.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .guard import LIMITS, MIB, Limits

HOUR = 3600  # seconds until Gradio deletes an upload


class NoRoom(Exception):
    """An upload that is not taken; its text is for the one who sent it."""


class Room:
    """The uploads of the last hour.

    clock: seconds. Visitors behind one address (a proxy, a public link) share what an address may have.
    """

    def __init__(self, limits: Limits = LIMITS, clock: Callable[[], float] = time.monotonic):
        self.limits, self.clock = limits, clock
        self._coming = 0  # bytes on their way
        self._taken: dict[str, list[tuple[float, int]]] = defaultdict(list)

    @contextmanager
    def taking(self, address: str, size: int) -> Iterator[Callable[[], None]]:
        """Keep room for an upload as long as it comes. -> to be called if it was not taken after all.

        Raises NoRoom.
        """
        entry = (self.clock(), size)
        self._check(address, size)
        self._coming += size
        self._taken[address].append(entry)
        try:
            yield lambda: self._taken[address].remove(entry)
        finally:
            self._coming -= size

    def _check(self, address: str, size: int) -> None:
        since = self.clock() - HOUR
        for name in list(self._taken):
            self._taken[name] = [entry for entry in self._taken[name] if entry[0] > since]
            if not self._taken[name]:
                del self._taken[name]
        if sum(one for _, one in self._taken.get(address, ())) + size > self.limits.each:
            most = f"{self.limits.each / MIB:,.0f} MiB"
            raise NoRoom(f"At most {most} an hour are taken from one address. Try again later.")
        if stored() + self._coming + size > self.limits.held:
            raise NoRoom("Too many files were handed in. They are deleted after an hour; try again then.")


def stored() -> int:
    """Bytes in the folder that uploads come to; 0 where it is not known."""
    folder = os.environ.get("GRADIO_TEMP_DIR")
    if not folder:
        return 0
    return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
