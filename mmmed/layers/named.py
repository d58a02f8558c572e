"""Modules by name, for names that come from the columns of a table."""

from __future__ import annotations

from torch import nn


class NamedModules(nn.ModuleDict):
    """A ModuleDict that takes any name. torch refuses "type", "values", "train" and about a hundred more.

    A module is reached by [name], never as an attribute. The keys of `state_dict` are those of a ModuleDict.
    """

    def add_module(self, name: str, module: nn.Module | None) -> None:
        self._modules[name] = module
