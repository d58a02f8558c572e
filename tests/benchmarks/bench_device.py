"""What a GPU buys: training steps, reading words and one patient's answer, on every device of this machine.

    python tests/benchmarks/bench_device.py [--small]

Five parts, each on the CPU with all its cores and on the GPU if there is one, in one run: wall time after
synchronising, medians.
(1) The training step of a model with a ResNet-50 as image encoder (64 pictures of 224 x 224, random pixels):
    forward, backward, clipping, AdamW, as in `finetune`. In fp32, where cuDNN rounds the operands of
    convolutions to TF32; in fp32 without that; in bf16 autocast.
(2) The same of the default model (small encoders, 32 records), where a GPU has little to do.
(3) `finetune` itself with the ResNet-50 on 512 records, augmentation and validation included: records per
    second of the last epoch.
(4) A Llama from scratch, 768 wide, 12 layers: the step of LoRA on 16 rows of 128 words, and words written per
    second for 16 rows.
(5) `predict` for one record by the default model, and by how much the answers of the devices differ.

--small: a ResNet-18 at 64 x 64 and a Llama 128 wide, for machines without a GPU (15 CPU seconds).
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch

import mmmed
from mmmed.language.decoding import generate
from mmmed.language.language_model import small_llama, token_losses
from mmmed.language.lora import add_lora
from mmmed.language.prompt import assemble
from mmmed.losses.stepwise import stepwise_loss
from mmmed.models.create import create_model
from mmmed.models.inference import predict_proba
from mmmed.training.optimisation import Optimisation, make_optimiser
from mmmed.types import Batch, Binary, Image, Number, Record, Schema, Tabular

DEVICES = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


@dataclass(frozen=True)
class Sizes:
    """How large the parts are."""

    encoder: str = "timm:resnet50"
    side: int = 224
    pictures: int = 64
    records: int = 512
    width: int = 768
    layers: int = 12
    words: int = 48


SMALL = Sizes("timm:resnet18", 64, 32, 128, 128, 4, 16)


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Median wall time, after a warm-up (three calls on a GPU, one on a CPU)."""

    def once() -> float:
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    for _ in range(3 if device == "cuda" else 1):
        once()
    return statistics.median(once() for _ in range(repeats))


@contextmanager
def tf32(on: bool) -> Iterator[None]:
    """Whether cuDNN may round the operands of convolutions; PyTorch allows it unless told otherwise."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = on
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def made(size: Sizes, count: int) -> mmmed.Cohort:
    """Records with a picture of random pixels, a small table and a label."""
    draw = np.random.default_rng(0)
    shape = (size.side, size.side, 3)
    schema = Schema(
        {
            "image": Image("picture", channels=3, size=shape[:2]),
            "table": Tabular((Number("age"), Number("crp"))),
        },
        {"sick": Binary("sick")},
    )
    records = [
        Record(
            f"r{k}",
            {
                "image": draw.integers(0, 256, shape, dtype=np.uint8),
                "table": {"age": 60.0 + k % 7, "crp": float(k % 5)},
            },
            {"sick": k % 2},
        )
        for k in range(count)
    ]
    return mmmed.Cohort.from_records(records, schema=schema).split(seed=0)


def step_of(model: mmmed.MultimodalModel, batch: Batch, precision: str) -> Callable[[], None]:
    """One update, as the loop of `finetune` makes it."""
    optimiser = make_optimiser(model.train(), Optimisation())
    weights = [p for group in optimiser.param_groups for p in group["params"]]
    kind = batch.present.device.type

    def step() -> None:
        with torch.autocast(kind, dtype=torch.bfloat16) if precision == "bf16" else nullcontext():
            losses = stepwise_loss(model(batch), batch, model.schema.tasks)
            loss = sum(losses.values())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def compare_steps(name: str, model: mmmed.MultimodalModel, batch: Batch, slow: int) -> None:
    """Milliseconds of a step on each device and in each precision; memory on the GPU."""
    found = {}
    for device in DEVICES:
        kinds = ("fp32", "fp32 without TF32", "bf16") if device == "cuda" else ("fp32",)
        for kind in kinds:
            with tf32(kind != "fp32 without TF32"):
                own = copy.deepcopy(model).to(device)
                if device == "cuda":
                    torch.cuda.reset_peak_memory_stats()
                work = step_of(own, batch.to(device), kind)
                found[device, kind] = seconds(work, device, 20 if device == "cuda" else slow)
            peak = f", peak {torch.cuda.max_memory_allocated() / 2**20:,.0f} MiB" if device == "cuda" else ""
            print(f"{name}, {device} {kind}: {1000 * found[device, kind]:.1f} ms a step{peak}")
    if len(DEVICES) > 1:
        cpu, fast = found["cpu", "fp32"], found["cuda", "fp32"]
        told = ", ".join(f"{kind} {cpu / own:.1f}" for (at, kind), own in found.items() if at == "cuda")
        print(f"{name}: CPU / GPU: {told}; fp32 / bf16 on the GPU {fast / found['cuda', 'bf16']:.2f}")


def steps(size: Sizes) -> None:
    """Parts 1 and 2."""
    cohort = made(size, size.pictures)
    model = create_model(cohort.schema, encoders={"image": size.encoder}, seed=0)
    batch = cohort.collate(list(cohort))
    compare_steps(f"{size.encoder}, {size.pictures} pictures of {size.side} x {size.side}", model, batch, 3)
    cohort = mmmed.load_cohort("synthetic", patients=80, seed=0)["train"]
    batch = cohort.collate([cohort[k] for k in range(32)])
    compare_steps("default model, 32 records", create_model(cohort.schema, seed=0), batch, 20)


def whole(size: Sizes) -> None:
    """Part 3."""
    cohort, rates = made(size, size.records), {}
    for precision in ("fp32", "bf16") if len(DEVICES) > 1 else ("fp32",):
        model = create_model(cohort.schema, encoders={"image": size.encoder}, seed=0)
        settings = Optimisation(batch_size=size.pictures, precision=precision)
        epochs = 3 if len(DEVICES) > 1 else 1
        run = mmmed.finetune(model, cohort, epochs=epochs, optimisation=settings, progress=False)
        rates[precision] = (len(cohort["train"]) + len(cohort["val"])) / run.history[-1]["seconds"]
    told = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    print(f"finetune on {DEVICES[-1]}, {size.encoder}: records per second, validation included: {told}")


def language(size: Sizes) -> None:
    """Part 4."""
    draw, rows, length = torch.Generator().manual_seed(0), 16, 128
    ids = torch.randint(4, 8000, (rows, length), generator=draw).tolist()
    found = {}
    for device in DEVICES:
        lm = small_llama(8000, width=size.width, layers=size.layers, heads=size.width // 64).to(device)
        words = lm.get_input_embeddings()
        with torch.no_grad():
            asked = assemble([[row[:16]] for row in ids], {}, {}, rows, words, {}, bos=1)

        def write(lm: torch.nn.Module = lm, asked: object = asked) -> None:
            written = generate(lm, asked, eos=2, forbid=[2], limit=size.words)
            assert all(len(row) == size.words for row in written.ids)

        found[device, "words"] = rows * size.words / seconds(write, device, 3 if device == "cuda" else 1)
        add_lora(lm.train())
        optimiser = torch.optim.AdamW([p for p in lm.parameters() if p.requires_grad], lr=1e-4)

        def learn(lm: torch.nn.Module = lm, words: object = words, by: object = optimiser) -> None:
            ready = assemble(
                [[row[:16]] for row in ids], {}, {}, rows, words, {}, [r[16:] for r in ids], bos=1
            )
            token_losses(lm, ready).sum().div(rows * length).backward()
            by.step()
            by.zero_grad(set_to_none=True)

        found[device, "step"] = seconds(learn, device, 10 if device == "cuda" else 3)
        print(
            f"Llama {size.width} x {size.layers}, {device}: {found[device, 'words']:.0f} words a second, "
            f"LoRA step {1000 * found[device, 'step']:.0f} ms"
        )
    if len(DEVICES) > 1:
        faster = found["cpu", "step"] / found["cuda", "step"]
        print(
            f"Llama: GPU / CPU words {found['cuda', 'words'] / found['cpu', 'words']:.1f}, steps {faster:.1f}"
        )


def answers() -> None:
    """Part 5."""
    cohort = mmmed.load_cohort("synthetic", patients=200, seed=0)
    model = create_model(cohort.schema, seed=0).eval()
    patient, found, told = cohort["test"][0], {}, {}
    for device in DEVICES:
        model.to(device)
        found[device] = seconds(lambda: mmmed.predict(model, patient), device, 20)
        told[device] = predict_proba(model, cohort)["diagnosis"]
        print(f"predict, one record, {device}: {1000 * found[device]:.1f} ms")
    if len(DEVICES) > 1:
        with tf32(False):
            exact = predict_proba(model, cohort)["diagnosis"]
        rough = np.abs(told["cuda"] - told["cpu"]).max()
        print(
            f"predict: CPU / GPU {found['cpu'] / found['cuda']:.2f}; largest difference of a probability "
            f"{rough:.1e}, without TF32 {np.abs(exact - told['cpu']).max():.1e}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="smaller networks")
    size = SMALL if parser.parse_args().small else Sizes()
    card = torch.cuda.get_device_name() if len(DEVICES) > 1 else "no GPU"
    print(f"{card}; CPU with {torch.get_num_threads()} threads; torch {torch.__version__}")
    for part in (lambda: steps(size), lambda: whole(size), lambda: language(size), answers):
        started = time.perf_counter()
        part()
        print(f"  ({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
