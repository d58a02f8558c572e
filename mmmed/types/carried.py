"""CarriedState: what a sequential model knows of a patient, kept until more is recorded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mmmed.checks import plain


@dataclass(frozen=True)
class CarriedState:
    """The state of a sequential fusion after some modalities, as numbers.

    values, shape: the numbers of `Fused.carry` of one record, row by row. used: the modalities it has seen,
    in the order of fusion. model: checksum of the fusion it belongs to; another model would misread it.
    """

    values: tuple[float, ...]
    shape: tuple[int, ...]
    used: tuple[str, ...]
    model: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-ready form; unrounded, so that the state read back goes on exactly as this one."""
        return {
            "values": list(self.values),
            "shape": list(self.shape),
            "used": list(self.used),
            "model": self.model,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CarriedState:
        """Read what `to_dict` wrote. Raises ValueError for anything else."""
        try:
            values, shape = tuple(map(float, data["values"])), tuple(map(int, data["shape"]))
            return cls(values, shape, tuple(map(str, data["used"])), int(data["model"]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"This is no carried state: {plain(data)}.") from error
