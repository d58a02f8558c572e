"""Hashes that tell runs and caches apart."""

import torch

from mmmed.training.fingerprint import architecture_fingerprint, digest


def test_a_hash_depends_on_values_type_shape_and_order():
    numbers = torch.arange(6.0)
    parts = [
        [numbers], [numbers + 1e-6], [numbers.double()], [numbers.view(2, 3)], [numbers.view(3, 2)],
        [numbers[:3], numbers[3:]], ["a", "b"], ["ab"], ["b", "a"], [],
    ]  # fmt: skip
    assert len({digest(part) for part in parts}) == len(parts)
    assert digest([numbers]) == digest([torch.arange(12.0)[::2] / 2])  # the same numbers, laid out otherwise


def test_every_kind_of_tensor_can_be_hashed():
    odd = [torch.tensor(True), torch.zeros(0), torch.ones(1).expand(4, 1), torch.ones(1).expand(1, 1)[:, 0]]
    odd += [torch.zeros(2, dtype=torch.bfloat16), torch.arange(6).view(2, 3).T, torch.tensor(3)]
    assert len({digest([tensor]) for tensor in odd}) == len(odd)


def test_a_frozen_layer_and_another_width_make_another_architecture():
    layer = torch.nn.Linear(3, 3)
    before = architecture_fingerprint(layer)
    assert architecture_fingerprint(torch.nn.Linear(3, 3)) == before  # the weights are not part of it
    assert architecture_fingerprint(torch.nn.Linear(3, 4)) != before
    layer.weight.requires_grad_(False)
    assert architecture_fingerprint(layer) != before
