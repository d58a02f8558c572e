"""Several models of one architecture as one: every weight has a leading member axis."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmmed.encoders.tabular import CellVectors
from mmmed.models.multimodal import MultimodalModel
from mmmed.training.dense import Parts
from mmmed.training.optimisation import parameter_groups
from mmmed.types import Batch, Tokens


class Stacked:
    """Models with their weights side by side.

    weights [members numbers]: all trainable parameters of each model in one row, so that an optimiser's step
    and the norm of a gradient are a handful of operations for all of them; the first `decayed` of each row
    are those that decay. fixed, buffers[name] [members ...]: what is not trained. frozen: modalities whose
    encoder is not asked, since their tokens come ready.
    """

    def __init__(
        self,
        models: Sequence[MultimodalModel],
        frozen: Sequence[str] = (),
        device: torch.device | str = "cpu",
    ):
        self.models, self.modalities = list(models), models[0].modalities
        self.skeleton = _skeleton(models[0]).to(device)
        asleep = tuple(f"encoders.{name}." for name in frozen)
        tables = [
            {n: p.detach().to(device) for n, p in m.named_parameters() if not n.startswith(asleep)}
            for m in models
        ]
        trained = _decayed_first(models[0], tables[0])
        self.decayed = sum(parameter.numel() for parameter, decays in trained.values() if decays)
        self.shapes = {name: parameter.shape for name, (parameter, _) in trained.items()}
        self.weights = torch.stack([torch.cat([table[n].reshape(-1) for n in trained]) for table in tables])
        self.weights.requires_grad_(True)
        self.fixed = {n: torch.stack([t[n] for t in tables]) for n in tables[0] if n not in trained}
        buffers = [{n: b for n, b in m.named_buffers() if not n.startswith(asleep)} for m in models]
        self.buffers = {n: torch.stack([b[n].to(device) for b in buffers]) for n in buffers[0]}

    def __len__(self) -> int:
        return len(self.models)

    def __call__(
        self, values: Mapping[str, Parts], present: Tensor, ready: frozenset[str], training: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Answers of every member to its own dense batch.

        values [members batch ...], present [members batch modality] -> steps[task] [members batch step
        outputs] and step_mask [members batch step]. Layers such as dropout draw anew for every member.
        """
        self.skeleton.train(training)

        def one(parameters: Parts, buffers: Parts, values: dict[str, Parts], present: Tensor) -> tuple:
            state = {**parameters, **buffers}
            outputs = functional_call(
                self.skeleton, state, (_batch(self.modalities, values, present, ready),)
            )
            # What a module assigned to its buffers stands in `state` now (running means, for example).
            return dict(outputs.steps), outputs.fused.step_mask, {name: state[name] for name in buffers}

        parameters = {**dict(self._named(self.weights)), **self.fixed}
        together = vmap(one, randomness="different")
        with sdpa_kernel(SDPBackend.MATH):  # the other kernels have no member axis: they would be looped over
            steps, mask, buffers = together(parameters, self.buffers, dict(values), present)
        if training:
            self.buffers = {name: buffer.detach() for name, buffer in buffers.items()}
        return steps, mask

    def live(self) -> Parts:
        """Weights (under the name "") and buffers as they are now, with the member axis first."""
        return {"": self.weights.detach(), **self.buffers}

    def state(self) -> Parts:
        """A copy of `live`."""
        return {name: tensor.clone() for name, tensor in self.live().items()}

    def hand_back(self, state: Parts) -> None:
        """Write weights and buffers as `state` gave them into the models."""
        named = [*self._named(state[""]), *((n, b) for n, b in state.items() if n)]
        for index, model in enumerate(self.models):
            # a copy of its own for each: a slice would keep the weights of all members alive
            own = {name: tensor[index].detach().clone() for name, tensor in named}
            model.load_state_dict(own, strict=False)  # frozen encoders are as they were

    def _named(self, weights: Tensor) -> Iterator[tuple[str, Tensor]]:
        sizes = [shape.numel() for shape in self.shapes.values()]
        for (name, shape), part in zip(self.shapes.items(), weights.split(sizes, dim=1), strict=True):
            yield name, part.unflatten(1, shape) if len(shape) else part.squeeze(1)


class MemberAdamW:
    """AdamW (Loshchilov and Hutter, arXiv:1711.05101) on weights [members numbers], of which the first
    `decayed` of each row decay: for every row what torch.optim.AdamW and a clipped norm of the gradient are
    for one model."""

    def __init__(self, weights: Tensor, decayed: int, weight_decay: float, clip: float):
        self.weights, self.clip = weights, clip
        cuts = [(slice(0, decayed), weight_decay), (slice(decayed, weights.shape[1]), 0.0)]
        self.cuts = [(cut, decay) for cut, decay in cuts if cut.start < cut.stop]
        groups = [
            {"params": [nn.Parameter(row[cut])], "weight_decay": decay}  # a view: its steps move the weights
            for row in weights.detach()
            for cut, decay in self.cuts
        ]
        self.optimiser = torch.optim.AdamW(groups, fused=weights.device.type in ("cpu", "cuda"))

    @torch.no_grad()
    def step(self, rates: Tensor, active: Tensor) -> Tensor:
        """One step along the gradient of the weights, which is emptied. rates [members]: of learning; members
        that are not `active` [members] bool stay as they are. -> norm of each gradient [members]."""
        gradient, self.weights.grad = self.weights.grad, None
        norm = gradient.norm(dim=1)
        if self.clip:
            gradient.mul_((self.clip / (norm + 1e-6)).clamp(max=1.0)[:, None])
        groups = iter(self.optimiser.param_groups)
        for row, rate, goes_on in zip(gradient, rates.tolist(), active.tolist(), strict=True):
            for cut, _ in self.cuts:
                group = next(groups)
                group["lr"] = rate
                group["params"][0].grad = row[cut] if goes_on else None  # AdamW passes over what has none
        self.optimiser.step()
        return norm


def _skeleton(model: MultimodalModel) -> MultimodalModel:
    """A copy that lends its code; its own weights are never used."""
    copy = deepcopy(model)
    for module in copy.modules():
        if isinstance(module, CellVectors):
            # It looks whether levels are in range. No stacked tensor can say; the collator saw to it.
            module._level = lambda cells, column: cells[:, column].long()
    return copy


def _decayed_first(model: MultimodalModel, names: Container[str]) -> dict[str, tuple[nn.Parameter, bool]]:
    """The trainable parameters among `names`, and whether they decay (see `parameter_groups`)."""
    rates = {
        id(parameter): group["weight_decay"]
        for group in parameter_groups(model, 1.0)
        for parameter in group["params"]
    }
    trained = [
        (n, p, rates[id(p)] > 0) for n, p in model.named_parameters() if p.requires_grad and n in names
    ]
    return {name: (p, decays) for name, p, decays in sorted(trained, key=lambda item: not item[2])}


def _batch(
    modalities: tuple[str, ...], values: Mapping[str, Parts], present: Tensor, ready: frozenset[str]
) -> Batch:
    rows = torch.arange(len(present), device=present.device)
    held = {name: Tokens(**parts) if name in ready else parts for name, parts in values.items()}
    return Batch(modalities, held, dict.fromkeys(held, rows), present)
