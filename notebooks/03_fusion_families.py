# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Fusion families
#
# **One question: which way of fusing should I take, and how would I know?**
#
# You will see every fusion of the package read the same tokens of the same patients, hide the same modalities from all of
# them, and measure each against the best that anybody could do. You will write a fusion of your own in ten lines. Then two
# sets of real patients, where the answer is different.
#
# Lecture 3 of 0 to 7. [Lecture 2](02_the_flip.ipynb) showed that the training rule decides whether a model can be trusted; this
# one, what the fusion still decides.
#
# Needed: `pip install "mmmed[notebooks]"`, under a minute on one core, no network.
# Research use only; nothing here is a medical device.

# %% [markdown]
# ## One recurrence
#
# A patient is a state. It starts as *nothing known*. Each modality in turn reads its tokens and rewrites the state; a
# modality that the patient lacks is skipped, for this patient alone. After every step the same head can answer, so there
# is an answer for every subset and a way that led to it:
#
# $s_0 = \text{init}, \qquad s_k = \text{update}_k(s_{k-1}, T_k)$ where modality $k$ is there, else $s_k = s_{k-1}$.
#
# Four families are this line with another state and another update. The other five look at everything that is there at
# once: no order, and no state that could be carried on.
#
# | family | state | update, or what it does at once | good at | source |
# |---|---|---|---|---|
# | `multimodn` | a vector | gated change by the mean token | small, readable steps | Swamy 2023, arXiv:2309.14118 |
# | `cascade` | a few latents | cross-attention, an output per stage | many tokens per modality | Liu 2022, arXiv:2210.00255 |
# | `perceiver` | latents | shared attention, several rounds | long inputs | Hemker 2023, arXiv:2311.09115 |
# | `lstm` | output and memory | one LSTM cell for all | visits in a sequence | Hayat 2022, arXiv:2207.07027 |
# | `concat` | | slots side by side, means in the gaps | the plain parallel baseline | Soenksen 2022 |
# | `late` | | each answers alone, answers are averaged | little data, no interactions | Kittler 1998 |
# | `gated_attention` | | weighted mean of the modalities | weights to look at | Ilse 2018, arXiv:1802.04712 |
# | `token_transformer` | | attention among all tokens | interactions, much data | Dosovitskiy 2020, Ma 2022 |
# | `moe` | | learned stand-ins, routed experts | many modalities, much data | Yun 2024, arXiv:2410.08245 |
#
# "Good at" is what each was proposed for. Whether it shows on your patients is measured, not read.

# %%
import torch

import mmmed

torch.set_num_threads(1)  # models this small gain nothing from a second one
families = mmmed.list_components(kind="fusion")
references = mmmed.list_components(kind="reference model")
families, references

# %% [markdown]
# ## Patients whose answer is known
#
# 600 synthetic patients to learn from, some 200 to choose the epoch and calibrate, 291 to test. Those to learn from, and the 200,
# lose three of ten modalities at random; the test patients are complete, and the benchmark hides from them.

# %%
import numpy as np

from mmmed.data.missingness import Mechanism, mcar

cohort = mmmed.load_cohort("synthetic", patients=1100, seed=0, split=(0.545, 0.19, 0.265))
learning = (cohort.splits != "test")[:, None]
cohort = cohort.keep(np.where(learning, mcar(cohort, share=0.3), np.array(cohort.present)))
test = cohort["test"]
cohort

# %% [markdown]
# ## The same encoders for all
#
# Eleven models trained from pixels would take many minutes. So the encoders are trained once, inside `late`, where
# each modality has to answer alone; then they are frozen, and every family gets the same tokens and learns the fusion only.
# This compares *fusions given encoders*, and gives `late` a small home advantage. The two reference models read pictures
# and text as a few plain numbers. What encoder and fusion reach when they learn together comes further down.

# %%
from mmmed.training import Augmentation

late = mmmed.create_model(cohort.schema, fusion="late")
mirrored = Augmentation(flip=True)  # this diagnosis does not depend on the side
run = mmmed.finetune(late, cohort, epochs=10, augmentation=mirrored, progress=False)
encoders = dict(late.encoders.items())
run


# %%
def fuse(fusion):
    model = mmmed.create_model(cohort.schema, fusion=fusion, encoders=encoders)
    mmmed.finetune(model, cohort, epochs=7, patience=2, frozen=list(encoders), progress=False)
    return model


models = {name: fuse(name) for name in dict.fromkeys(["late", *references, *families])}

# %% [markdown]
# ## Same patients, same masks, same draws
#
# Every model sees the same test patients through every subset of modalities, and with 30 % missing at random. Diamonds: the
# exact posterior of the same patients given the same subset. Bars: 95 % intervals by patient. Grey strokes in each panel:
# `late`, the plainest fusion there is.

# %%
hidden = [Mechanism("mcar", {"share": 0.3})]
benchmark = mmmed.missingness_benchmark(models, test, mechanisms=hidden, draws=200)
benchmark.plot()

# %% [markdown]
# The share of the way from .5 to the best possible AUROC that each model went:

# %%
shares = benchmark.side_by_side(metric="share_of_way").to_frame()
shares.drop(columns="kind").set_index("seen").T.round(2)

# %% [markdown]
# Is any of them better than late averaging, on patients with 30 % missing? The difference, on the same patients and draws:

# %%
gaps = benchmark.differences.where(seen="mcar 30 %").to_frame()
gaps[["model", "auroc", "auroc_low", "auroc_high"]].round(3)

# %% [markdown]
# Read three things. **The families lie within a few hundredths of each other**, and every difference to `late` is smaller than
# its interval. **A logistic regression on a few plain numbers per modality cannot be told from them**: a little below
# with 30 % missing, level with the best where picture and table are all there is. And everybody is far from the diamonds
# wherever picture and table must be read together: with these two alone half of the way or more is left, whichever fusion
# reads the tokens. Where encoders have seen 600 patients, and each alone, the fusion is not what limits.
#
# How much of this is luck? With `split=(0.55, 0.18, 0.27)`, six patients more to learn from, and one epoch more for the fusion,
# the same cells gave a `late` that goes .56 of the way on the picture instead of .65, and a logistic regression beside it (-.001
# instead of -.020). What 600 patients happen to teach the encoders moves the table more than the choice of a family does, and
# the intervals, which draw test patients, do not show it.
#
# ## When encoders and fusion learn together
#
# The same question with 2,000 training patients and every model trained as a whole, printed by
# `tests/benchmarks/bench_families.py`: AUROC, and share of the way to the best possible.
#
# | seen | image | table | text | image + table | image + text | table + text | all three | 30 % missing | to the best reference |
# |---|---|---|---|---|---|---|---|---|---|
# | best possible | .796 | .661 | .784 | .900 | .846 | .829 | .941 | .877 |  |
# | `logistic_regression` | .688, 63 % | .654, 96 % | .719, 77 % | .735, 59 % | .742, 70 % | .764, 80 % | .784, 64 % | .753, 67 % |  |
# | `gradient_boosting` | .684, 62 % | .644, 89 % | .728, 80 % | .730, 57 % | .736, 68 % | .755, 77 % | .776, 63 % | .755, 67 % |  |
# | `multimodn` | .763, 89 % | .643, 89 % | .741, 85 % | .799, 75 % | .794, 85 % | .769, 82 % | .828, 74 % | .796, 78 % | +.041 [+.024, +.056] |
# | `cascade` | .776, 93 % | .652, 94 % | .733, 82 % | .810, 77 % | .802, 87 % | .768, 81 % | .836, 76 % | .801, 80 % | +.046 [+.028, +.061] |
# | `perceiver` | .767, 90 % | .649, 93 % | .742, 85 % | .801, 75 % | .798, 86 % | .772, 83 % | .831, 75 % | .800, 79 % | +.045 [+.028, +.060] |
# | `lstm` | .775, 93 % | .641, 88 % | .729, 81 % | .802, 75 % | .797, 86 % | .759, 79 % | .826, 74 % | .792, 77 % | +.037 [+.021, +.053] |
# | `concat` | .761, 88 % | .654, 96 % | .741, 85 % | .771, 68 % | .776, 80 % | .769, 82 % | .809, 70 % | .780, 74 % | +.025 [+.011, +.038] |
# | `late` | .771, 92 % | .650, 93 % | .740, 85 % | .793, 73 % | .791, 84 % | .772, 83 % | .821, 73 % | .790, 77 % | +.035 [+.020, +.050] |
# | `gated_attention` | .738, 80 % | .652, 94 % | .718, 76 % | .712, 53 % | .749, 72 % | .765, 81 % | .779, 63 % | .750, 66 % | -.004 [-.020, +.011] |
# | `token_transformer` | .758, 87 % | .649, 92 % | .735, 83 % | .786, 72 % | .792, 84 % | .757, 78 % | .821, 73 % | .788, 76 % | +.033 [+.016, +.049] |
# | `moe` | .768, 90 % | .646, 91 % | .740, 85 % | .797, 74 % | .802, 87 % | .772, 83 % | .833, 75 % | .799, 79 % | +.044 [+.027, +.061] |
#
# Here every family but `gated_attention` beats both reference models by more than its interval, and none lies below them by
# more than it. What they share weighs more than what sets them apart: from labels alone none finds the interaction between
# picture and table, and all stop at three quarters of the way.

# %% [markdown]
# ## A fusion of your own
#
# An update is a module: state and tokens in, new state out. This one lets what is known *scale* what comes: the state is
# stretched and shifted by each modality (Perez 2018, arXiv:1709.07871), so that a picture can change how the table is read.

# %%
from torch import nn

from mmmed.fusion.recurrence import LearnedState, Recurrence


# %%
class Modulate(nn.Module):
    def __init__(self, dim=64, state_dim=64):
        super().__init__()
        self.scale, self.shift = nn.Linear(dim, state_dim), nn.Linear(dim, state_dim)

    def forward(self, state, tokens):  # state [n state_dim], tokens.mean() [n dim]
        return state * (1 + self.scale(tokens.mean()).tanh()) + self.shift(tokens.mean()).tanh()


# %% [markdown]
# Absent modalities, batches of mixed records, dropout of modalities, weights, calibration, all subsets: nothing of that is
# the update's business. The recurrence and the training loop do it.

# %%
torch.manual_seed(0)  # create_model seeds what it builds; these parts are built here
updates = {name: Modulate() for name in cohort.schema.modalities}
own = fuse(Recurrence(LearnedState(64), updates, state_dim=64))
pair = {"late": models["late"], "multimodn": models["multimodn"], "modulate": own}
compared = mmmed.missingness_benchmark(pair, test, mechanisms=hidden, draws=200)
compared.side_by_side()

# %%
compared.differences.where(seen="mcar 30 %")

# %% [markdown]
# Ten lines of one's own stand beside the nine published ideas, and no difference is larger than its interval. Multiplying can
# express that one modality changes the meaning of the other, averaging cannot; whether that brings anything would have to be
# seen in a study with folds and more patients.
#
# A mistake in the shape is said in words, when the first patient comes:


# %%
class Half(Modulate):
    def forward(self, state, tokens):
        return super().forward(state, tokens)[:, :32]


try:
    fuse(Recurrence(LearnedState(64), {**updates, "text": Half()}, state_dim=64))
except ValueError as error:
    print(error)

# %% [markdown]
# ## What each modality adds
#
# Exact Shapley values over all subsets: the share of the AUROC above .5, and of the log-loss saved, that each modality
# brings in one model. They add up, whatever the order of fusion.

# %%
benchmark.shapley.where(model="multimodn")

# %% [markdown]
# ## A state that is carried
#
# A sequential fusion can stop, and go on later without the earlier inputs: the picture is read in the morning, and its
# state kept (numbers in JSON). When the note arrives, the picture is not needed again.

# %%
model, patient = models["multimodn"], test[0]
morning = mmmed.predict(model, patient, until="image")
morning

# %%
evening = mmmed.predict_partial(model, morning.state, patient.only("text"))
at_once = mmmed.predict(model, patient.only("image", "text"))
print(evening)
print("read at once:", round(at_once["diagnosis"].value, 4), "carried:", round(evening["diagnosis"].value, 4))

# %% [markdown]
# ## What should be recorded next?
#
# Only the table of this patient is known. The training patients most like this one lend their pictures and notes: how far
# would the answer move?

# %%
from mmmed.explain import value_of_information

worth = value_of_information(model, patient.only("table"), cohort["train"])
print(worth)
worth.plot()

# %% [markdown]
# ## Real patients
#
# 200 women with a breast ultrasound, and 243 chest radiographs of 71 patients with laboratory values. The data are not
# shipped with mmmed (CC BY 4.0 and CC BY 3.0); set `MMMED_DATA` to the folder that holds them. One split, small encoders
# from scratch: this shows the calls, and how wide the intervals are.


# %%
def on_real(name):
    real = mmmed.load_cohort(name)
    few = {one: mmmed.create_model(real.schema, fusion=one) for one in ["late", "multimodn", *references]}
    for one in few.values():
        mmmed.finetune(one, real, epochs=6, progress=False)
    natural = [Mechanism("natural")]
    return mmmed.missingness_benchmark(few, real["test"], natural, draws=200).side_by_side()


# %%
try:
    breast = on_real("breast-us")
except ValueError as how_to_get_it:
    breast = None
    print(how_to_get_it)
breast

# %%
try:
    chest = on_real("hannover-cxr")
except ValueError as how_to_get_it:
    chest = None
    print(how_to_get_it)
chest

# %% [markdown]
# About forty test patients, most intervals a fifth and more: hardly a line of these tables tells two models apart. The same with
# five patient folds and pictures read by a frozen ImageNet network, printed by `tests/benchmarks/bench_real.py`:
#
# | AUROC, mean of 5 folds | breast, as recorded | breast, 30 % missing | chest, as recorded | chest, 30 % missing |
# |---|---|---|---|---|
# | what was recorded, no value read | .624 [.562, .691] | | .677 [.561, .760] | |
# | best modality alone, logistic regression | .786 [.721, .851] (table) | | .852 [.771, .918] (image) | |
# | logistic regression on frozen tokens, tables, averaged | .775 [.706, .839] | | .874 [.796, .922] | |
# | `logistic_regression`, pictures as a few plain numbers | .787 [.718, .851] | .757 [.683, .828] | .876 [.796, .930] | .847 [.767, .904] |
# | `gradient_boosting`, the same numbers | .727 [.649, .805] | .696 [.612, .775] | .913 [.857, .956] | .862 [.793, .918] |
# | `late` | .808 [.744, .866] | .772 [.701, .834] | .820 [.715, .891] | .806 [.697, .878] |
# | `multimodn` | .829 [.765, .886] | .786 [.712, .848] | .821 [.708, .894] | .799 [.672, .867] |
# | `cascade` | .801 [.735, .861] | .773 [.702, .843] | .828 [.708, .906] | .782 [.691, .853] |
# | `perceiver` | .792 [.724, .851] | .755 [.683, .820] | .841 [.742, .913] | .803 [.686, .872] |
# | `lstm` | .791 [.724, .854] | .782 [.708, .844] | .891 [.817, .933] | .853 [.760, .904] |
# | `concat` | .809 [.738, .867] | .773 [.695, .838] | .868 [.770, .920] | .843 [.737, .896] |
# | `gated_attention` | .794 [.722, .859] | .770 [.696, .839] | .863 [.750, .929] | .831 [.720, .900] |
# | `token_transformer` | .763 [.686, .827] | .736 [.660, .805] | .874 [.754, .932] | .841 [.720, .903] |
# | `moe` | .818 [.752, .876] | .774 [.704, .838] | .889 [.815, .937] | .856 [.767, .911] |
#
# **Breast:** the table alone, in a logistic regression, says what any fusion says. No family differs from `late` by more
# than its interval but `token_transformer`, which is worse (-.045 [-.095, -.002]), as is gradient boosting (-.081
# [-.157, -.004]); one such in ten is what luck gives.
#
# **Chest:** gradient boosting on a few numbers per picture has the highest figure. `late`, `multimodn`, `cascade` and
# `perceiver` have lower ones than a logistic regression that sees the picture alone: with 71 patients their fusion seems to
# cost more than it brings. `lstm`, `moe`, `gated_attention` and gradient boosting beat `late` by more than the interval of
# the paired difference, but a plain logistic regression stands beside them, all intervals overlapping. And every one of
# them may read the ward instead of the lung: none of the 49 PA pictures was taken in intensive care.
#
# `multimodn` is first on one cohort and last but one on the other: ranks from one cohort do not travel.

# %% [markdown]
# ## Limits
#
# - So, which? On a few hundred patients: `logistic_regression` and `late` first; keep another one only if it beats both by
#   more than the interval of the paired difference, on folds of *your* patients and under the gaps that you expect. Take a
#   sequential family where the *state* is wanted: answers on the way, or a record that grows.
# - One seed, one set of frozen encoders, default settings, seven epochs: a family that was tuned may move by more than these
#   differences. With ten families compared, one stands out by luck.
# - The intervals draw patients anew, not training sets. In the table of real patients the standard deviation over folds is
#   .01 to .13.
# - Modalities were missing at random here. When what is missing depends on the label, the training rule counts for more
#   than the fusion: see [the flip](02_the_flip.ipynb).
#
# Next: [reports that look](04_reports_that_look.ipynb): words instead of a number.
