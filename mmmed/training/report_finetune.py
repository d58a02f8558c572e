"""finetune for a report generator: its stages one after the other, resumable, validated, with the gap
printed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmmed.data.targets import rows_with_text
from mmmed.language.lora import has_lora
from mmmed.training.chance import streams_kept
from mmmed.training.checkpoint import claim_output
from mmmed.training.progress import check_progress
from mmmed.training.report_part import Questions
from mmmed.training.report_run import ReportRun
from mmmed.training.report_session import ReportSession
from mmmed.training.report_stages import Stage, check_stages, default_stages, set_views

if TYPE_CHECKING:
    from accelerate import Accelerator

    from mmmed.data.cohort import Cohort
    from mmmed.models.report_generator import ReportGenerator


def finetune_reports(
    reporter: ReportGenerator,
    cohort: Cohort,
    *,
    stages: Sequence[Stage] | None = None,
    epochs: int | None = None,
    questions: Questions = (),
    output: str | Path | None = None,
    resume: bool = True,
    seed: int = 0,
    progress: bool | str = True,
    accelerator: Accelerator | None = None,
) -> ReportRun:
    """Take a generator through its stages on cohort["train"]; after each the weights of the epoch with the
    lowest validation loss are kept and the grounding gap is measured and said. Changes the generator in
    place.

    stages: by default those of `mmmed.training.report_stages.default_stages`, the last of `epochs`.
    questions: (record id, question, answer) of training records, besides the closed questions that the table
    of findings gives. output, resume, seed, progress: as in `mmmed.finetune`; a run that was killed goes on
    after its last epoch. Under torchrun each process works on its share of every batch. Raises ValueError for
    a cohort without reports, for stages that do not fit, if the output cannot be written, and if a checkpoint
    belongs to another run.
    """
    from mmmed.training.finetune import make_accelerator

    output = None if output is None else Path(output)
    check_progress(progress, output)
    if stages is None:
        told = rows_with_text(cohort["train"].column(reporter.target))
        stages = default_stages(reporter, epochs, len(told))
    stages = check_stages(stages, reporter)
    accelerator = accelerator or make_accelerator()
    if output is not None and accelerator.is_main_process:
        claim_output(output, reporter.network.own_state().values(), resume)
    accelerator.wait_for_everyone()
    session = ReportSession.of(reporter, cohort, stages, tuple(questions), output, seed, accelerator)
    session.resume()
    accelerator.wait_for_everyone()  # or one would read what another has written since
    with _in_training(reporter, accelerator):
        session.run(progress if accelerator.is_main_process else False)
    return session.finish(cohort.name)


@contextmanager
def _in_training(reporter: ReportGenerator, accelerator: Accelerator) -> Iterator[None]:
    """On the accelerator's device, and back; the global generators are left as they were, and so is what may
    be trained, but for the base of a language model with LoRA, which rests."""
    network = reporter.network
    device = network.missing.device
    rested = {id(parameter) for parameter in network.parameters() if not parameter.requires_grad}
    with streams_kept(accelerator.device):
        network.to(accelerator.device)
        try:
            yield
        finally:
            network.to(device).eval()
            set_views(network, ())
            base = {id(parameter) for parameter in network.part("language model")}
            rested |= base if has_lora(network.language_model) else set()
            for parameter in network.parameters():
                parameter.requires_grad_(id(parameter) not in rested)
                parameter.grad = None
