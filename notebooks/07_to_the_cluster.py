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
# # To the cluster
#
# **One question: the same ten lines on many processes, on more data than memory, on a machine that may stop at any moment.
# Do they still learn the same?**
#
# You will write a training script, run it on two processes and compare every weight, kill it with `kill -9` and let it go
# on, see what a frozen encoder saves, and open data that do not fit into memory. Everything runs here, on two CPU processes;
# a job file for SLURM is shown, and what was *not* tried is said at the end.
#
# Lecture 7 of 0 to 7: the training of [lecture 1](01_first_patient.ipynb), where one computer is not enough.
#
# Needed: `pip install "mmmed[notebooks]"`, under a minute on two cores, no network, Linux or macOS.
# Research use only; nothing here is a medical device.

# %% [markdown]
# ## A script
#
# Nothing in it knows how many processes there are. `finetune` asks the launcher: each process gets its share of every
# batch, gradients are added up, the first process writes the files.

# %%
from pathlib import Path
from tempfile import mkdtemp

work = Path(mkdtemp())

# %%
script = """import sys, mmmed
from mmmed.training import Optimisation

def train(output, dropout=0.0, **settings):
    cohort = mmmed.load_cohort("synthetic", patients=300, seed=0)
    cohort = cohort.with_schema(cohort.schema.without("text"))
"""

# %%
script += """    rate = {"dropout": dropout}
    parts = {"fusion": ("multimodn", rate), "encoders": {"table": ("mlp", rate)}}
    model = mmmed.create_model(cohort.schema, **parts)
    how = Optimisation(**{"checkpoint_every": 2, **settings})
    return mmmed.finetune(model, cohort, epochs=3, output=output, optimisation=how, progress=False)

if __name__ == "__main__":
    train(sys.argv[1])
"""
size = (work / "train.py").write_text(script)

# %%
import os
import sys
import time

import torch

torch.set_num_threads(1)
print(script)

# %% [markdown]
# Why are the dropout layers off? Each process draws for its own, so that with them two runs differ by more than rounding.
# They come back below. One thread each, for the same reason: the order of a sum is part of it. First the script on one process:
# this one.

# %%
sys.path.insert(0, str(work))
from train import train

alone = train(work / "alone")

# %% [markdown]
# ## Two processes
#
# `torchrun` comes with torch; `accelerate launch --num_processes 2 train.py two` does the same. Between CPUs the processes
# talk through gloo, between NVIDIA cards through NCCL; the script does not say which.

# %%
import subprocess

launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
environment = {**os.environ, "OMP_NUM_THREADS": "1"}
options = {"cwd": work, "env": environment}
done = subprocess.run([*launch, "train.py", "two"], capture_output=True, text=True, check=False, **options)
print("torchrun --standalone --nproc-per-node 2 train.py two")
print("ended well" if done.returncode == 0 else done.stderr)

# %%
import json

import pandas as pd
from safetensors.torch import load_file


# %%
def compare(one, other):
    a, b = (load_file(work / name / "model" / "model.safetensors") for name in (one, other))
    return max(float((x - y).abs().max()) for x, y in zip(a.values(), b.values(), strict=True))


def epochs_of(name):
    return [json.loads(line) for line in (work / name / "metrics.jsonl").read_text().splitlines()]


# %%
columns = ["epoch", "train_loss", "val_loss", "val_auroc"]
tables = {name: pd.DataFrame(epochs_of(name))[columns].set_index("epoch") for name in ("alone", "two")}
print(f"largest difference of any weight: {compare('alone', 'two'):.1e}")
pd.concat(tables, axis=1).round(4)

# %% [markdown]
# Not bit for bit: two halves of a batch are added up in another order than one whole. But the same draws, the same batches,
# the same weights up to rounding. A batch size is the number of patients over *all* processes together, so the number of
# machines is no hidden setting of an experiment.
#
# ## Killed, and gone on
#
# A job on a cluster ends when its time is over, without a goodbye. The script starts again, and is killed after its first
# epoch.

# %%
killed = subprocess.Popen([sys.executable, "train.py", "killed"], **options)
log = work / "killed/metrics.jsonl"
while killed.poll() is None and not (log.exists() and log.read_text()):
    time.sleep(0.01)
killed.kill()  # kill -9: no chance to tidy up
print("exit status", killed.wait(), "after", len(epochs_of("killed")), "of 3 epochs")

# %% [markdown]
# The same call again. It finds the checkpoint and goes on from there; every draw follows from seed, epoch and update, so
# nothing else has to be remembered.

# %%
resumed = train(work / "killed")
print("largest difference to the run that was never killed:", compare("alone", "killed"))

# %%
for path in sorted(path for path in (work / "killed").rglob("*") if path.is_file()):
    print(f"{path.relative_to(work)!s:<46} {path.stat().st_size / 1e3:8,.0f} kB")

# %% [markdown]
# Difference 0: bit for bit. A checkpoint is written under another name and moved into place, so a kill in the middle of
# writing leaves the one before. One line of `metrics.jsonl` per epoch is the log; with `progress="tensorboard"` there are
# event files as well. A checkpoint of *another* run is refused:

# %%
from textwrap import fill

try:
    train(work / "killed", lr=3e-3)
except ValueError as error:
    print(fill(str(error).replace(str(work), "the folder"), 110))

# %% [markdown]
# ## Small memory: accumulation and bf16
#
# Where 32 patients do not fit at once, `accumulate` adds up the gradients of parts of them before the weights move.
# `precision="bf16"` computes in 16 bits where that is safe and keeps the weights in 32; it pays on a card that has units for it,
# not on a CPU, and it is another, coarser rounding.

# %%
others = {f"{n} x batch {32 // n}": {"batch_size": 32 // n, "accumulate": n} for n in (2, 4)}
others |= {"bf16": {"precision": "bf16"}, "dropout layers on": {"dropout": 0.1}}
others |= {"2 x batch 16, dropout layers on": {**others["2 x batch 16"], "dropout": 0.1}}
rows = {"batch 32": [alone.history[-1]["val_loss"], 0.0]}
for name, settings in others.items():
    run = train(work / name, **settings)
    rows[name] = [run.history[-1]["val_loss"], compare("alone", name)]
pd.DataFrame(rows, index=["validation loss, epoch 3", "largest difference of a weight"]).T

# %% [markdown]
# Twice sixteen is the same up to rounding. With four times eight the rounding grew, as it may where an activation or a gradient
# is nearly zero; the loss agrees to five digits all the same. The last two lines are the recipe with dropout layers, at once and
# in two halves: other draws, another path. With them on, which is the default, two processes or parts of a batch learn *as well
# as* one, not the same.

# %% [markdown]
# ## A frozen encoder runs once
#
# Large encoders are mostly kept as they are. Then their tokens never change: they are computed once, put on disk under a
# name made of weights, settings and data, and every later epoch, run and process reads them. Here a ResNet-18 with random
# weights, so that nothing has to be downloaded.

# %%
import mmmed

images = mmmed.load_cohort("synthetic", patients=200, seed=0)
frozen = {"epochs": 1, "frozen": ["image"], "output": work / "frozen", "resume": False, "progress": False}
seconds = {}
for name in ("first run: encode, then one epoch", "second run: one epoch"):
    model = mmmed.create_model(images.schema, encoders={"image": ("timm", {"name": "resnet18"})})
    start = time.process_time()
    mmmed.finetune(model, images, **frozen)
    seconds[name] = time.process_time() - start

# %%
pd.Series(seconds, name="CPU seconds").round(2)

# %% [markdown]
# The second includes reading, validation, calibration and saving. `tests/benchmarks/bench_token_cache.py` takes the epochs
# apart.
#
# ## More data than memory
#
# Pictures are read when a batch needs them, from files or from an Arrow table that is mapped, not loaded. Here such tables
# with pictures inside grow, and the memory of this process is measured: what it allocates for itself, without mapped files.

# %%
import datasets
import numpy as np
import psutil
import pyarrow

datasets.disable_progress_bars()


# %%
def memory():
    told = psutil.Process().memory_info()
    return (told.rss - getattr(told, "shared", 0)) / 1e6


# %%
import io

from PIL import Image

chance = np.random.default_rng(0)
pictures = [io.BytesIO() for _ in range(20)]
for picture in pictures:
    Image.fromarray(chance.integers(0, 255, (200, 200), np.uint8)).save(picture, "png", compress_level=0)


# %%
def patients(n):
    for k in range(n):
        scan = pictures[k % 20].getvalue()
        yield {"patient": f"p{k}", "scan": scan, "age": 20.0 + k % 70, "sepsis": "yes" if k % 3 else "no"}


# %%
kinds = {"patient": "string", "scan": "binary", "age": "float32", "sepsis": "string"}
features = datasets.Features({name: datasets.Value(kind) for name, kind in kinds.items()})

# %%
import gc

named = {"image": "scan", "tabular": ["age"], "target": "sepsis", "group": "patient"}


def write(n):
    return datasets.Dataset.from_generator(patients, features, str(work / "arrow"), gen_kwargs={"n": n})


# %%
def open_and_read(table):
    big = mmmed.Cohort.from_dataset(table, schema=schema)
    read = sum(len(batch) for _, batch in zip(range(8), big["train"].batches(32), strict=False))
    gc.collect()
    held = pyarrow.total_allocated_bytes() / 1e6
    return [len(table), read, table.size_in_bytes / 1e6, held, memory()]


# %%
tables = [write(n) for n in (400, 1600, 6400)]
schema = mmmed.Cohort.from_dataset(tables[1], **named).schema  # columns, means, scales: learned once
for _ in range(2):  # the second time everything is imported and warm
    grown = pd.DataFrame([open_and_read(table) for table in tables])
grown.columns = ["rows", "of them read", "table", "held by Arrow", "memory of this process"]
grown.round(1)

# %% [markdown]
# In MB. Arrow holds next to nothing of the table: the patients and the numbers, no picture.

# %%
from mmmed.explain.style import quiet
from mmmed.palette import BLUE, PALETTE, Picture

# %%
figure = Picture(figsize=(6, 3), layout="constrained")
axes = figure.subplots()
beside = {"xytext": (8, 0), "textcoords": "offset points", "va": "center"}
for name, colour, mark in (("table", PALETTE[1], "s"), ("memory of this process", BLUE, "o")):
    rise = grown[name] - grown[name][0]
    axes.plot(grown["rows"], rise, mark + "-", color=colour)
    axes.annotate(name, (6400, rise.iloc[-1]), **beside, color=colour)

# %%
axes.set(xlabel="rows", ylabel="more than with 400 rows, MB", xlim=(0, 10_500), xticks=grown["rows"])
axes.set_title("The table grows, the memory does not", loc="left", size=11)
quiet(axes)
figure

# %% [markdown]
# Numbers, categories and texts are the exception: they are checked when the cohort is opened, and kept in memory, about as
# large as on disk. In training, what fits into 512 MB is kept decoded; more is read anew in each epoch, by
# `Optimisation(workers=8)` processes if you say so.
#
# A *stream* (`datasets.load_dataset(..., streaming=True)`) has no length and no order to draw from, and a split by patient
# needs both. So `from_dataset` writes it once, some rows at a time, to an Arrow table in a temporary folder, and maps that as
# above; of an endless one take a part, `stream.take(100_000)`:

# %%
stream = datasets.IterableDataset.from_generator(patients, features, gen_kwargs={"n": 500})
mmmed.Cohort.from_dataset(stream, **named)

# %% [markdown]
# Parquet files go the same way: `datasets.Dataset.from_parquet(["a.parquet", ...])` maps them; `Cohort.from_csv` with a
# `.csv` or `.parquet` path reads the table into memory, pictures on disk excepted.
#
# ## On SLURM
#
# One task per node, one process per card; the same call after every end, since it resumes.
#
# ```sh
# #!/bin/bash
# #SBATCH --job-name=mmmed --nodes=2 --ntasks-per-node=1 --gpus-per-node=4 --cpus-per-task=32
# #SBATCH --time=08:00:00 --requeue --signal=B:USR1@60 --output=logs/%j.txt
# trap 'scontrol requeue "$SLURM_JOB_ID"; exit' USR1   # a minute before the end: back into the queue
# export HF_HUB_OFFLINE=1 OMP_NUM_THREADS=8
# first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 4 --rdzv-backend c10d \
#     --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:29500" train.py "$SCRATCH/runs/first" & wait
# ```
#
# The output folder must be one that all nodes see. Many recipes instead of one large model? A study
# (`mmmed.missingness_study(..., output=...)`) shares its jobs over the processes, and each is resumed by itself.

# %%
import shutil

shutil.rmtree(work)

# %% [markdown]
# ## Limits
#
# - **No run on several nodes was made**, and the job file above was not tried: it is a start, to be fitted to your cluster.
#   Measured here: two processes on one machine, CPUs, gloo. No card took part.
# - Equal up to rounding was shown for three epochs of a small model without dropout layers. Over many epochs rounding grows, as
#   with any change of hardware; bit for bit is promised for the same number of processes, on a CPU.
# - Two processes on a small model are not faster; most of the time goes into starting them. Speed was not the question.
# - Memory was measured as what the process keeps for itself. Mapped pages count as well where a cluster's limit includes
#   the file cache, but the system takes them back when it needs them.
#
# This was the last lecture. All eight: [four ways a missing image goes wrong](00_four_ways_a_missing_image_goes_wrong.ipynb),
# [the first patient](01_first_patient.ipynb), [the flip](02_the_flip.ipynb), [fusion families](03_fusion_families.ipynb),
# [reports that look](04_reports_that_look.ipynb), [a mask for a phrase](05_a_mask_for_a_phrase.ipynb),
# [bring your own CSV](06_bring_your_own_csv.ipynb), and this one.
