"""One path for each sequence: what is absent cannot matter, and no sequence is more than another."""

from itertools import pairwise, product

import pytest
import torch
from torch import nn
from torch.nn.functional import avg_pool2d, avg_pool3d, binary_cross_entropy_with_logits, relu

from mmmed.segmentation.sequences import LEAST, SequencePyramid, halvings
from mmmed.training.policy import drop_modalities
from mmmed.types import Batch

NAMES = ("flair", "pre", "post")
SIZE = (5, 13, 16)
# Records 0 to 4: all three, only one, two, none at all, another two.
PRESENT = torch.tensor([[1, 1, 1], [0, 1, 0], [1, 0, 1], [0, 0, 0], [0, 1, 1]]).bool()


def draws():
    return torch.Generator().manual_seed(0)


def pyramid(names=NAMES, size=SIZE, widths=(4, 6, 8), **options):
    """A pyramid whose stand-ins have been learned, so that they are not zero."""
    net = SequencePyramid(names, size, widths=widths, **options)
    draw = draws()
    with torch.no_grad():
        for name in sorted(names):  # the same numbers, however the names are ordered
            for parameter in net.paths[name].parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=draw) / 8)
    return net


def pictures(names=NAMES, size=SIZE, records=5):
    """What each record would look like in each sequence: name -> [records 1 *space]."""
    draw = draws()
    return {name: torch.randn(records, 1, *size, generator=draw) for name in names}


def pack(everything, present):
    """The values and rows of those who have them; a sequence without any record has no key."""
    rows = {name: present[:, k].nonzero().squeeze(1) for k, name in enumerate(everything)}
    rows = {name: at for name, at in rows.items() if len(at)}
    return {name: everything[name][at] for name, at in rows.items()}, rows, len(present)


def assert_alike(mine, other, **tolerance):
    for one, two in zip(mine, other, strict=True):
        torch.testing.assert_close(one, two, **({"atol": 1e-5, "rtol": 1e-4} | tolerance))


# ------------------------------------------------------------------------------------------------ the promise


def slowly(net, everything, present):
    """Record by record and path by path, in the words of the docstring."""
    average = {2: avg_pool2d, 3: avg_pool3d}[net.space]
    names, records = list(everything), []
    for record in range(len(present)):
        here = [name for k, name in enumerate(names) if present[record, k]]
        gone = [name for name in names if name not in here]
        read = {name: everything[name][record : record + 1] for name in here}
        grid, handed = torch.empty(everything[names[0]].shape[2:]), []
        for level, stride in enumerate(net.strides):
            grid = grid[tuple(slice(None, None, step) for step in stride)]  # sides rounded up
            maps = {}
            for name in here:
                path = net.paths[name]
                if level == 0:
                    maps[name] = relu(path.stem(read[name]))
                else:
                    smaller = average(read[name], stride, ceil_mode=True)
                    maps[name] = path.blocks[level - 1](smaller)
            tokens = sum((net.paths[name].tokens[level] for name in gone), torch.zeros(net.widths[level]))
            tokens = tokens.view(1, -1, *[1] * net.space).expand(1, -1, *grid.shape)
            handed.append(tokens + sum(maps.values()) / len(here) if here else tokens)
            for name in here:
                others = [maps[other] for other in here if other != name]
                others = sum(others) / len(others) + tokens if others else tokens
                read[name] = torch.cat([maps[name], others], dim=1) if len(names) > 1 else maps[name]
        records.append(handed)
    return [torch.cat(level) for level in zip(*records, strict=True)]


@pytest.mark.parametrize("size", [SIZE, (8, 8, 8), (17, 11), (16, 16)])
@pytest.mark.parametrize("names", [NAMES, ("one",)])
def test_it_equals_a_loop_over_records_and_sequences(names, size):
    net, everything = pyramid(names, size), pictures(names, size)
    present = PRESENT[:, : len(names)]
    assert_alike(net(*pack(everything, present)), slowly(net, everything, present))


def test_the_maps_go_from_fine_to_coarse_on_one_grid_for_all_records():
    net = pyramid(strides=((1, 2, 2), (1, 2, 1), (2, 3, 2)))
    shapes = [tuple(maps.shape) for maps in net(*pack(pictures(), PRESENT))]
    assert shapes == [(5, 4, 5, 7, 8), (5, 6, 5, 4, 8), (5, 8, 3, 2, 4)]
    assert [shape[1] for shape in shapes] == list(net.widths)


# ------------------------------------------------------------------------------------------- what is absent


def test_a_record_is_judged_alone():
    net, everything = pyramid(), pictures()
    together = net(*pack(everything, PRESENT))
    for record in range(len(PRESENT)):
        own = {name: maps[record : record + 1] for name, maps in everything.items()}
        alone = net(*pack(own, PRESENT[record : record + 1]))
        assert_alike(alone, [maps[record : record + 1] for maps in together])


def test_hiding_a_sequence_is_the_same_as_never_having_recorded_it():
    net, everything = pyramid(), pictures()
    values, rows, records = pack(everything, torch.ones_like(PRESENT))
    full = Batch(NAMES, values, rows, torch.ones_like(PRESENT))
    hidden = full.keep(drop_modalities(full.present, 0.6, draws()))
    assert 5 <= hidden.present.sum() < 15
    assert_alike(
        net(hidden.values, hidden.rows, records), net(*pack(everything, hidden.present)), atol=0, rtol=0
    )


def test_a_record_without_any_sequence_gets_the_learned_vectors_everywhere():
    net = pyramid()
    nobody = net({}, {}, 2)
    for level, maps in enumerate(nobody):
        wanted = sum(net.paths[name].tokens[level] for name in NAMES)
        torch.testing.assert_close(maps, wanted[None, :, None, None, None].expand_as(maps))
    assert_alike([maps[:1] for maps in nobody], [m[3:4] for m in net(*pack(pictures(), PRESENT))])


def test_a_sequence_of_nobody_is_no_sequence():
    net, everything = pyramid(), pictures()
    values, rows, records = pack({"pre": everything["pre"]}, torch.ones(5, 1).bool())
    nobody = {"post": torch.empty(0, 1, *SIZE)}, {"post": torch.empty(0, dtype=torch.long)}
    called = []
    net.paths["post"].register_forward_hook(lambda *_: called.append(1))
    both = net(values | nobody[0], rows | nobody[1], records)
    assert_alike(both, net(values, rows, records), atol=0, rtol=0)
    assert not called
    assert [tuple(m.shape) for m in net(*nobody, 0)] == [(0, *m.shape[1:]) for m in both]


def test_before_learning_an_absent_sequence_adds_nothing():
    net = SequencePyramid(NAMES, SIZE, widths=(4, 6))
    everything = pictures()
    alone = net(*pack({"pre": everything["pre"]}, torch.ones(5, 1).bool()))
    first = relu(net.paths["pre"].stem(everything["pre"]))
    assert_alike(alone[:1], [first])
    assert all(torch.equal(maps, torch.zeros_like(maps)) for maps in net({}, {}, 1))


def test_the_vector_of_a_sequence_that_everybody_has_is_not_read():
    net, everything = pyramid(), pictures()
    before = net(*pack(everything, torch.ones_like(PRESENT)))
    with torch.no_grad():
        for path in net.paths.values():
            for token in path.tokens:
                token += 100
    assert_alike(net(*pack(everything, torch.ones_like(PRESENT))), before, atol=0, rtol=0)


def test_one_sequence_is_read_in_the_light_of_the_others():
    net, everything = pyramid(), pictures()
    present = torch.ones_like(PRESENT)
    seen = []
    net.paths["flair"].blocks[0].register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    net(*pack(everything, present))
    net(*pack(everything | {"post": everything["post"] + 1}, present))
    assert (seen[0] - seen[1]).abs().amax() > 1e-3


# ---------------------------------------------------------------------------------- no sequence is the first


def test_the_order_of_the_names_does_not_matter():
    net, everything = pyramid(), pictures()
    turned = SequencePyramid(NAMES[1:] + NAMES[:1], SIZE, widths=(4, 6, 8))
    turned.load_state_dict(net.state_dict())
    values, rows, records = pack(everything, PRESENT)
    backwards = dict(reversed(values.items()))
    assert_alike(turned(backwards, rows, records), net(values, rows, records))


def test_names_and_weights_move_together():
    net, everything = pyramid(), pictures()
    turned = dict(zip(NAMES, NAMES[1:] + NAMES[:1], strict=True))
    other = SequencePyramid(NAMES, SIZE, widths=(4, 6, 8))
    for name, new in turned.items():
        other.paths[new].load_state_dict(net.paths[name].state_dict())
    values, rows, records = pack(everything, PRESENT)
    values, rows = ({turned[name]: item for name, item in items.items()} for items in (values, rows))
    assert_alike(other(values, rows, records), net(*pack(everything, PRESENT)))


def test_each_sequence_more_costs_the_same_number_of_parameters():
    sizes = []
    for count in range(1, 9):
        names = [f"sequence {k}" for k in range(count)]
        net = SequencePyramid(names, (8, 8), widths=(4, 6))
        sizes.append(sum(parameter.numel() for parameter in net.parameters()))
        assert len(net(*pack(pictures(names, (8, 8), 2), torch.ones(2, count).bool()))) == 2
    assert len({later - sooner for sooner, later in pairwise(sizes[1:])}) == 1
    assert sizes[0] < sizes[1] / 2  # alone there is nothing to exchange, and no room for it


def test_any_name_and_any_number_of_channels_will_do():
    net = SequencePyramid(["train", "t1.w"], (8, 8), channels={"train": 1, "t1.w": 3}, widths=(4, 6))
    values = {"train": torch.randn(1, 1, 8, 8), "t1.w": torch.randn(2, 3, 8, 8)}
    maps = net(values, {"train": torch.tensor([1]), "t1.w": torch.tensor([0, 1])}, 2)
    assert [tuple(m.shape) for m in maps] == [(2, 4, 4, 4), (2, 6, 4, 4)]


# -------------------------------------------------------------------------------------------------- learning


def test_gradients_reach_every_path_and_every_stand_in():
    net = pyramid()
    sum(maps.square().sum() for maps in net(*pack(pictures(), PRESENT))).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_the_gradient_of_a_path_that_nobody_takes_is_nothing():
    net = pyramid()
    present = torch.tensor([[1, 1, 0], [0, 1, 0]]).bool()
    sum(maps.square().sum() for maps in net(*pack(pictures(records=2), present))).backward()
    absent = net.paths["post"]
    assert all(p.grad is None for p in (*absent.stem.parameters(), *absent.blocks.parameters()))
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_it_learns_to_point_where_two_sequences_differ():
    # Half of the places are bright in each, the target is what is bright in "one" only. Without "two" the
    # best guess, "nowhere" or "one", is right at three places of four.
    draw = draws()
    spots = (torch.rand(16, 2, 8, 8, generator=draw) < 0.5).float()
    target = spots[:, :1] * (1 - spots[:, 1:])
    values = {"one": spots[:, :1], "two": spots[:, 1:]}
    rows = dict.fromkeys(values, torch.arange(16))
    net = pyramid(("one", "two"), (8, 8), widths=(8, 8), strides=((1, 1), (1, 1)))
    head = nn.Conv2d(8, 1, 1)
    with torch.no_grad():  # first weights of its own would depend on the tests that ran before
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) / 8)
    optimiser = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(head(net(values, rows, 16)[1]), target).backward()
        optimiser.step()

    def correct(*names):
        maps = net({name: values[name] for name in names}, {name: rows[name] for name in names}, 16)
        return ((head(maps[1]) > 0) == (target > 0.5)).float().mean()

    assert correct("one", "two") > 0.98
    assert correct("one") < 0.8


# ------------------------------------------------------------------------------------------------ the strides


def test_a_thin_stack_is_first_halved_across_its_slices():
    assert halvings((16, 64, 64), 4) == ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert halvings((20, 128, 128), 4) == ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    assert halvings((64, 64), 4) == ((2, 2),) * 4


@pytest.mark.parametrize("size", list(product((1, 3, 8, 21), (9, 40), (64, 33))))
def test_no_axis_is_halved_to_nothing_and_none_is_left_behind(size):
    shape = list(size)
    for stride in halvings(size, 6):
        longest = max(shape)
        for axis, step in enumerate(stride):
            assert step == 1 or (shape[axis] >= 2 * LEAST and 2 * shape[axis] > longest)
            shape[axis] = -(-shape[axis] // step)
    assert max(shape) < 2 * LEAST
    assert min(shape) >= min(LEAST, *size)


# -------------------------------------------------------------------------------------------- what is refused


def test_wrong_input_is_named():
    net, (values, rows, records) = pyramid(), pack(pictures(), PRESENT)
    with pytest.raises(ValueError, match=r"Unknown sequence 'flare'. Did you mean .flair.\?"):
        net({"flare": values["flair"]}, {"flare": rows["flair"]}, records)
    with pytest.raises(ValueError, match="values and rows should have the same sequences"):
        net(values, {"flair": rows["flair"]}, records)
    with pytest.raises(ValueError, match=r"pre should have shape .*height=13.* one grid"):
        net(values | {"pre": values["pre"][..., 1:, :]}, rows, records)
    with pytest.raises(ValueError, match=r"post should have shape \[n=3 channels=1 depth=5"):
        net(values | {"post": values["post"][:2]}, rows, records)


def test_a_wrong_plan_is_named():
    with pytest.raises(ValueError, match="one or more different sequences, got pre, pre"):
        SequencePyramid(["pre", "pre"], SIZE)
    with pytest.raises(ValueError, match="different sequences, got none"):
        SequencePyramid([], SIZE)
    with pytest.raises(ValueError, match=r"size should be \(height, width\) or"):
        SequencePyramid(["pre"], (8,))
    with pytest.raises(ValueError, match="3 positive whole numbers for each of the 4 levels"):
        SequencePyramid(["pre"], SIZE, strides=((2, 2, 2),))
