"""The picture of the flip in the README: two fusions, undefended and with the policy, under three tests.

Measures what it draws: the recipes, masks, folds and seeds of bench_flip.py for the 442 diabetes patients
that scikit-learn ships, so the figures are those of its table. Writes flip.png beside this file: a picture of
measurements lies with the script that makes it. Half a CPU minute.

    OMP_NUM_THREADS=1 python tests/benchmarks/figure_flip.py [--output flip.png]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from bench_flip import BLANKED, EPOCHS, masks, recipes
from matplotlib.axes import Axes

import mmmed
from mmmed.evaluation.scores import Table
from mmmed.palette import DARK, GREY, PALE, PALETTE, Picture

FUSIONS = ("concat", "multimodn")
TESTS = {"same": "same habit", "complete": "complete\nrecords", "flipped": "habit\nflipped"}
# where a figure stands beside its bar: points across and up, which of its edges stands there
ABOVE, BELOW, LOWER_LEFT = (0, 4, "center", "bottom"), (0, -4, "center", "top"), (4, -4, "right", "top")
# recipe's ending -> words, colour, marker, step to the side, places of its figures under each test
LOOKS = {
    ", undefended": ("undefended", PALETTE[1], "s", -0.06, (ABOVE, LOWER_LEFT, BELOW)),
    "": ("with the policy", PALETTE[0], "o", 0.06, (BELOW, ABOVE, ABOVE)),
}
TITLE = "When the habit of who lacks a modality flips, the policy holds"
STORY = (
    "442 diabetes patients. In training, 4 of 5 of those whose disease progressed lack their vital signs.\n"
    "Tested with the same habit, on complete records, and flipped: 4 of 5 of the others lack them.\n"
    "Mean of 5 folds x 2 seeds; bars: 95 % interval by patient."
)
WIDTH, HEIGHT, DPI = 8.3, 4.1, 200  # 1660 pixels across, twice the column of a page


def measure() -> Table:
    """Recipe and test -> AUROC with its interval."""
    cohort = mmmed.load_cohort("diabetes")
    tests = masks(cohort, BLANKED["diabetes"])
    wanted = [fusion + ending for fusion in FUSIONS for ending in LOOKS]
    chosen = {name: recipe for name, recipe in recipes(EPOCHS["diabetes"], False).items() if name in wanted}
    study = mmmed.missingness_study(
        chosen, cohort, train=[tests["same"]], test=tests, folds=5, seeds=2, progress=False
    )
    return study.side_by_side()


def draw(table: Table) -> Picture:
    """A panel per fusion, a line per way of training, a place per test."""
    picture = Picture(figsize=(WIDTH, HEIGHT), facecolor="white", layout="constrained")
    picture.get_layout_engine().set(rect=(0.012, 0, 0.976, 1), h_pad=0.1)
    picture.suptitle(TITLE, x=0.02, ha="left", fontsize=14, fontweight="bold")
    for axes, fusion in zip(picture.subplots(1, len(FUSIONS), sharey=True), FUSIONS, strict=True):
        for ending in LOOKS:
            draw_line(axes, table.where(recipe=fusion + ending)[0], ending)
        dress(axes, fusion)
    picture.axes[0].set_ylabel("AUROC", fontsize=12, color=DARK)
    picture.axes[1].legend(loc="lower left", frameon=False, fontsize=12)
    picture.supxlabel(STORY, x=0.02, ha="left", fontsize=9.5, color=DARK)
    return picture


def draw_line(axes: Axes, row: dict, ending: str) -> None:
    """Three estimates with their intervals, and the value of each in words."""
    word, colour, marker, aside, sides = LOOKS[ending]
    places = [place + aside for place in range(len(TESTS))]
    found = [row[test] for test in TESTS]
    values = [estimate.value for estimate in found]
    reach = [[e.value - e.low for e in found], [e.high - e.value for e in found]]
    axes.errorbar(
        places, values, reach, color=colour, marker=marker, markersize=7, linewidth=2.2, capsize=3, label=word
    )
    for place, estimate, (across, up, side, edge) in zip(places, found, sides, strict=True):
        axes.annotate(
            f"{estimate.value:.3f}",
            (place, estimate.high if up > 0 else estimate.low),
            (across, up),
            textcoords="offset points",
            ha=side,
            va=edge,
            color=colour,
            fontsize=12,
            fontweight="bold",
        )


def dress(axes: Axes, fusion: str) -> None:
    """Title, names of the tests, the line of no skill."""
    axes.axhline(0.5, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=0)
    axes.annotate("a coin", (-0.38, 0.5), (0, 3), textcoords="offset points", fontsize=10, color=DARK)
    axes.set_title(fusion, loc="left", fontsize=12, family="monospace")
    axes.set_xticks(range(len(TESTS)), list(TESTS.values()), fontsize=12)
    axes.set_xlim(-0.4, len(TESTS) - 0.6)
    axes.set_ylim(0, 1.08)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.tick_params(length=0, labelsize=11, colors=DARK)
    axes.grid(axis="y", color=PALE, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in axes.spines.values():
        side.set_visible(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("flip.png"))
    options = parser.parse_args()
    start = time.process_time()
    table = measure()
    print(table)
    draw(table).savefig(options.output, dpi=DPI, metadata={"Software": None})
    print(f"{options.output.name} written, {time.process_time() - start:.0f} CPU s")


if __name__ == "__main__":
    main()
