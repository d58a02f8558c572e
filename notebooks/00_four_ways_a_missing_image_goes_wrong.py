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
# # Four ways a missing image goes wrong
#
# **One question: a patient comes without the image. What does the computer answer, and for whom?**
#
# You will rebuild four failures, each found by reading or running published code, in a few plain lines: the answer of
# another patient, a whole batch that goes blind, a model of nothing but NaN beside metrics that look normal, and a black
# picture that is read as a symptom. Each is set beside mmmed on the same patients, with one figure and one number.
#
# Lecture 0 of 0 to 7: why the rest exists. You need some Python and PyTorch; every other term is said when it comes.
#
# Needed: `pip install "mmmed[notebooks]"`, half a minute on one core, no network.
# Research use only; nothing here is a medical device.

# %% [markdown]
# ## Four hundred patients, a hundred gaps
#
# 400 patients with one picture and a table of laboratory values each; 30 % lose the picture at random. 200 to learn from,
# 80 to choose and calibrate, 120 to ask.

# %%
import numpy as np
import torch

import mmmed
from mmmed.data.missingness import Mechanism, mcar

torch.set_num_threads(1)  # models this small gain nothing from a second one

# %%
everything = mmmed.load_cohort("synthetic", patients=400, seed=0, split=(0.5, 0.2, 0.3))
everything = everything.with_schema(everything.schema.without("text"))
cohort = everything.keep(mcar(everything, share=0.3, modalities=["image"], seed=4))
cohort

# %% [markdown]
# The four plain models below want tensors of one size, as most code does. So there has to be *something* where a picture
# is missing; here it is NaN, "not a number". What happens to it next makes the four failures.

# %%
numbers = [cell.name for cell in cohort.schema.modalities["table"].cells if cell.name != "sex"]
usual = cohort["train"].to_frame()[numbers].describe()


def tensors(part):
    nothing = np.full((64, 64), np.nan)
    pictures = np.stack([record.inputs.get("image", nothing) / 255.0 for record in part])
    table = (part.to_frame()[numbers] - usual.loc["mean"]) / usual.loc["std"]
    sick = part.targets("diagnosis")[0]
    return [torch.tensor(np.asarray(item)).float() for item in (pictures[:, None], table, sick)]


# %% [markdown]
# One plain network for all four: what the picture says plus what the table says.

# %%
from torch import nn

bce = nn.functional.binary_cross_entropy_with_logits


# %%
class Plain(nn.Module):
    def __init__(self):
        super().__init__()
        see = [nn.Conv2d(1, 16, 9, 4), nn.ReLU(), nn.AdaptiveMaxPool2d(3), nn.Flatten(), nn.Linear(144, 1)]
        self.eye, self.table = nn.Sequential(*see), nn.Linear(len(numbers), 1)

    def forward(self, pictures, table):
        return (self.eye(pictures) + self.table(table)).squeeze(1)


# %%
def fit(model, pictures, table, sick, epochs=20, size=16):
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    chance = torch.Generator().manual_seed(0)
    for rows in (r for _ in range(epochs) for r in torch.randperm(len(sick), generator=chance).split(size)):
        optimiser.zero_grad()
        bce(model(pictures[rows], table[rows]), sick[rows]).backward()
        optimiser.step()
    return model.eval()


# %%
torch.manual_seed(0)
train, test = cohort["train"], cohort["test"]
learned, asked = tensors(train), tensors(test)
lacks = asked[0].isnan().flatten(1).any(1).numpy()  # test patients without a picture
print(f"{lacks.sum()} of {len(test)} test patients have no picture")

# %% [markdown]
# And one model of mmmed, trained once, on the same patients, that answers in all four comparisons.

# %%
from mmmed.models import predict_proba

model = mmmed.create_model(cohort.schema)
run = mmmed.finetune(model, cohort, epochs=20, progress=False)
ours = predict_proba(model, test)["diagnosis"][:, 0]

# %%
from mmmed.explain.style import quiet
from mmmed.palette import BLUE, DARK, GREY, PALETTE, Picture


# %%
def panels(left, right, title, height=3.2):
    figure = Picture(figsize=(8, height), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", size=12)
    for axes, name in zip(figure.subplots(1, 2, sharex=True, sharey=True), (left, right), strict=True):
        quiet(axes, grid="both")
        axes.set_title(name, size=10, loc="left", color=DARK)
    return figure


# %% [markdown]
# ## 1. The answer of somebody else
#
# A file cannot be read, and the data loader helps itself: it takes the next row. In training that costs a patient; at
# prediction it gives a patient the answer of another one. Seen in AutoMM with `missing_value_strategy="skip"`
# (autogluon/autogluon, `multimodal/data/dataset.py`: an error in `__getitem__` is answered with index + 1, also when
# predicting): there, 79 of 79 patients without an image got exactly the next patient's probability. The rule, in our words:


# %%
class NextOnError(torch.utils.data.TensorDataset):
    def __getitem__(self, row):
        picture, table, _ = super().__getitem__(row)
        if picture.isnan().any():  # cannot be read
            return self[(row + 1) % len(self)]
        return picture, table


# %%
complete = ~learned[0].isnan().flatten(1).any(1)
plain = fit(Plain(), *(item[complete] for item in learned))
with torch.no_grad():
    batches = torch.utils.data.DataLoader(NextOnError(*asked), batch_size=16)
    theirs = torch.cat([plain(*batch).sigmoid() for batch in batches]).numpy()

# %%
has = np.flatnonzero(~lacks)
after = np.array([has[np.searchsorted(has, row) % len(has)] for row in range(len(test))])  # next with picture

# %%
figure = panels("next row on error", "mmmed", "Whose answer did the patients without a picture get?")
for axes, answers in zip(figure.axes, (theirs, ours), strict=True):
    axes.plot([0, 100], [0, 100], color=GREY, lw=1, ls=(0, (4, 3)))
    axes.plot(100 * answers[after[lacks]], 100 * answers[lacks], "o", color=BLUE, alpha=0.7)
    same = (answers[lacks] == answers[after[lacks]]).sum()
    axes.set_xlabel(f"answer of the next patient who has one [%]\nexactly the same: {same} of {lacks.sum()}")
figure.axes[0].set_ylabel("answer of the patient\nwithout picture [%]")
figure

# %% [markdown]
# On the dashed line the two are the same. Nobody is told; the table of the patient was never read.
#
# mmmed reads what a patient has and nothing else. A file that is named but cannot be found is an error that says so; only
# if you allow it does it count as absent, and then the answer says that too:

# %%
lost = test[0].with_input("image", "scan_17.png")
try:
    mmmed.predict(model, lost)
except ValueError as error:
    print(str(error).partition(" in ")[0], "...")

# %%
mmmed.predict(model, test[0].without("image"))

# %% [markdown]
# ## 2. A whole batch goes blind
#
# The released code of MultiModN (EPFLiGHT/MultiModN, `multimodn/multimodn.py`, the `isnan` tests around its encoders) asks
# whether *any* value of the batch is NaN, and if so leaves the encoder out for everybody in it. In our words:


# %%
class SkipForAll(Plain):
    def forward(self, pictures, table):
        if pictures.isnan().any():
            return self.table(table).squeeze(1)
        return super().forward(pictures, table)


# %%
for size in (1, 4, 16):
    rows = torch.randperm(len(train), generator=torch.Generator().manual_seed(1)).split(size)
    seeing = sum(not learned[0][some].isnan().any() for some in rows)
    print(f"batches of {size:>2}: the picture is looked at in {seeing} of {len(rows)}")

# %% [markdown]
# Trained in batches of 16, the image encoder learns nothing at all. And at prediction the answer to a patient depends on who
# else is asked about. (The released code, run on 500 such patients in batches of 16, used the image encoder in 0 of 32
# batches.) Trained in batches of 4, ten complete patients, alone and among the other test patients:

# %%
blind = fit(SkipForAll(), *learned, size=4)
ten = has[:10]
with torch.no_grad():
    alone = blind(asked[0][ten], asked[1][ten]).sigmoid().numpy()
    together = blind(*asked[:2]).sigmoid().numpy()[ten]
mine = np.array([predict_proba(model, test.where([row]))["diagnosis"][0, 0] for row in ten])
pairs = [(alone, together), (mine, ours[ten])]

# %%
figure = panels("skipped for the whole batch", "mmmed", "The same ten patients, asked alone and in company")
for axes, (single, shared) in zip(figure.axes, pairs, strict=True):
    axes.hlines(range(10), 100 * single, 100 * shared, color=GREY, lw=1.5)
    axes.plot(100 * single, range(10), "o", color=BLUE, label="asked alone")
    axes.plot(100 * shared, range(10), "o", color=PALETTE[1], mfc="none", ms=9, label="in company")
    axes.set_xlabel(f"risk [%]\nlargest change: {100 * np.abs(single - shared).max():.1f} points")
figure.axes[0].set_yticks(range(10), [f"patient {k}" for k in range(1, 11)])
figure.axes[0].invert_yaxis()
_ = figure.axes[0].legend(frameon=False, fontsize=9, loc="upper left")

# %%
figure

# %% [markdown]
# mmmed packs a batch so that an encoder gets the rows that exist and no others; each patient is judged as if alone, up to
# rounding:

# %%
float(np.abs(mine - ours[ten]).max())

# %% [markdown]
# ## 3. NaN, and nobody says so
#
# The NaN goes into the network. One patient without a picture makes the loss of the batch NaN, the first update makes every
# weight NaN, and from then on complete patients get no answer either. Seen when running fusilli and pykale on such a table
# (both ended with every probability NaN, and printed an accuracy of .513; fusilli an AUROC of .504 as well).

# %%
silent = fit(Plain(), *learned)
with torch.no_grad():
    none = silent(*asked[:2]).sigmoid().numpy()
sick = asked[2].numpy().astype(bool)
rank = none.argsort(kind="stable").argsort()  # of NaN: the order of the file
auroc = (rank[sick][:, None] > rank[~sick]).mean()
print(f"test accuracy {((none > 0.5) == sick).mean():.3f}, AUROC {auroc:.3f}")

# %% [markdown]
# Two figures that one might publish: "above 0.5" is false for NaN, so everybody is called healthy, and an AUROC made of
# ranks ranks the order of the file. What the patients got:

# %%
figure = panels("NaN goes in", "mmmed", "Answers to the 120 test patients")
for axes, answers in zip(figure.axes, (none, ours), strict=True):
    axes.hist(100 * answers[np.isfinite(answers)], bins=np.arange(0, 101, 5), color=BLUE)
    axes.set_xlabel(f"risk [%]\nanswers that are a number: {np.isfinite(answers).sum()} of {len(answers)}")
figure.axes[0].set(ylabel="patients", xlim=(0, 100), yticks=range(0, 21, 5))
figure.axes[0].text(50, 10, "no answer to anybody", ha="center", color=DARK)
figure

# %% [markdown]
# In mmmed a missing picture has no tensor, so there is no place for a NaN. A picture *made* of NaN is refused at the door,
# and a loss that is not finite stops the training with an error.

# %%
try:
    mmmed.predict(model, test[0].with_input("image", np.full((64, 64), np.nan)))
except ValueError as error:
    print(error)

# %% [markdown]
# ## 4. A black picture is a symptom
#
# The usual cure is a stand-in: zeros, a grey picture, a learned one. It runs, and where pictures are missing at random it
# is a strong baseline. AutoMM's default is a black image; fusilli and pykale need one to run. The trouble starts when
# there is a *reason*. Now the sick lose their picture more often (55 % against 12 %, again 30 % in all), as those do who
# are too ill for the scan.

# %%
habit = {"task": "diagnosis", "modality": "image", "positive": 0.55, "negative": 0.12}
stays = Mechanism("mnar_by_label", habit).apply(everything)
ward = everything.keep(stays)
habits = tensors(ward["train"])
filled = fit(Plain(), habits[0].nan_to_num(0), *habits[1:], epochs=40)
defended = mmmed.create_model(ward.schema)
run = mmmed.finetune(defended, ward, epochs=20, progress=False)

# %% [markdown]
# Take the picture away from *every* test patient. Not having been photographed is no news about their lungs, so on average
# the risk should stay where it is.

# %%
full, bare = everything["test"], everything["test"].without("image")
pictures, table, _ = tensors(full)
with torch.no_grad():
    shown, black = (filled(p, table).sigmoid().numpy() for p in (pictures, torch.zeros_like(pictures)))
kept, taken = (predict_proba(defended, part)["diagnosis"][:, 0] for part in (full, bare))
moves = [(shown, black), (kept, taken)]

# %%
figure = panels("black picture instead", "mmmed", "The picture is taken away: what happens to the risk?", 4)
order = np.argsort(shown)[:: len(shown) // 20]
for axes, (before, now) in zip(figure.axes, moves, strict=True):
    axes.hlines(range(len(order)), 100 * before[order], 100 * now[order], color=GREY, lw=1.5)
    axes.plot(100 * before[order], range(len(order)), "o", color=BLUE, label="with the picture")
    axes.plot(100 * now[order], range(len(order)), "s", color=PALETTE[1], mfc="none", label="without")
    axes.set_xlabel(f"risk [%]\non average {100 * (now - before).mean():+.0f} points over all 120 patients")
figure.axes[0].set(yticks=[], ylabel="every sixth patient, by risk")
figure.axes[0].legend(frameon=False, fontsize=9, loc="best")
figure

# %% [markdown]
# The plain network has learned that black means sick. Leaving the picture out instead is not enough to be safe from that:
# an encoder that is skipped is a sign, too, and [the flip](02_the_flip.ipynb) measures it. What keeps the right panel in place is the training
# rule of mmmed (hiding at random, and weights so that a pattern of what is there says nothing about the label).
#
# ## The four, side by side

# %%
import pandas as pd

same = [(answers[lacks] == answers[after[lacks]]).sum() for answers in (theirs, ours)]
rows = {"answers of a neighbour": [f"{count} of {lacks.sum()}" for count in same]}
gaps = [100 * np.abs(single - shared).max() for single, shared in pairs]
rows["change by company, points"] = [f"{gap:.1f}" for gap in gaps]
rows["answers that are NaN"] = [f"{np.isnan(some).sum()} of {len(some)}" for some in (none, ours)]
rows["mean shift without picture, points"] = [f"{100 * (now - was).mean():+.1f}" for was, now in moves]
pd.DataFrame(rows, index=["plain rule", "mmmed"]).T

# %% [markdown]
# | failure | what the user sees | what mmmed does |
# |---|---|---|
# | next row on error | nothing: a probability like any other | reads the patient's own modalities; a dead path is an error, or absent by your leave, and named in the answer |
# | skipped for the whole batch | nothing: other answers with other batches | a mask per patient; an encoder gets the rows that exist |
# | NaN goes in | an accuracy near the share of the healthy | no tensor for what is missing; NaN refused, a loss that is not finite stops the run |
# | black picture | nothing, until the reason for the gaps changes | no stand-in; hiding at random and weights in training; the audit says what presence alone gives away |
#
# ## Limits
#
# - The four rules are rebuilt in our words to show the mechanism. The packages named do much more, and may have changed
#   since they were read and run (2026): look at the version that you use.
# - 120 test patients, one seed, networks of toy size. The first three are facts about code, whatever the seed; the fourth
#   is a mean over patients, and its size depends on how strong the habit is.
# - A black *file* in your folder is a picture to mmmed as well; nobody can know that it stands for nothing. Leave the cell
#   empty instead.
# - The training rule is exact where the label drives what is recorded. It does not cure gaps that depend on the unseen
#   picture itself.
#
# Next: [the first patient](01_first_patient.ipynb), the whole way from a cohort to a saved model.
