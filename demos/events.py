"""What happens on the page: each event, what it reads, what it changes, how a mistake becomes a sentence."""

from __future__ import annotations

import functools
import html
import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import gradio as gr

from mmmed import predict

from .answers import NOT_ANSWERED, PANELS, Asked, Visit, best_possible, look
from .cast import Cast
from .companions import HOW_TO_GET
from .form import Entered
from .guard import plain_words
from .kept import FILES, as_json, kept_of
from .order import in_order, picked
from .patient import Patient
from .pictures import drawn, find, first_slice, marked
from .preview import problem
from .results import KINDS, OUTDATED, Result, basis_of, fresh
from .summary import page_of, record_of
from .writing import ask, elsewhere, stale, told, write

log = logging.getLogger("mmmed.demo")
UNFORESEEN = "Something went wrong here. The details are in the log of the server."
SAVE = (
    "(name, text, kind) => { const a = document.createElement('a');"
    " a.href = URL.createObjectURL(new Blob([text], {type: kind})); a.download = name; a.click(); }"
)


def speaks_plainly(handler: Callable) -> Callable:
    """Wrong input ends in a sentence on the page; what nobody foresaw is logged here and not shown there."""

    @functools.wraps(handler)
    def run(self: Events, visit: Visit, *values: Any) -> Mapping[Any, Any]:
        try:
            return {self.parts.problem: problem(visit.problems), **handler(self, visit, *values)}
        except (ValueError, ImportError, OSError) as error:
            return {self.parts.problem: problem([*visit.problems, plain_words(error)])}
        except Exception:
            log.exception("The page could not answer.")
            return {self.parts.problem: problem([*visit.problems, UNFORESEEN])}

    return run


class Events:
    """The handlers of one page. They hold nothing of a visitor: that is in the `Visit` they are given."""

    def __init__(self, cast: Cast, companions: Any):
        self.cast, self.companions = cast, companions
        self.parts: Patient

    # ---- which event calls which handler

    def wire(self, parts: Patient, page: gr.Blocks) -> None:
        """Connect every component of the page."""
        self.parts = parts
        form = parts.form
        asked = [parts.task, parts.order, *parts.costs.values()]
        results = list(parts.results.values())
        shown = [parts.visit, parts.problem, parts.headline, parts.stale, *form.inputs, *form.states]
        shown += [*parts.panels.values(), *results]
        quick = {
            "show_progress": "hidden", "trigger_mode": "always_last", "concurrency_id": "look",
            "concurrency_limit": 2,
        }  # fmt: skip
        gr.on(
            self._typed(), self.update, [parts.visit, *asked, *form.inputs], shown, api_name="look", **quick
        )
        gr.on(
            [page.load, parts.example.input], self.choose, [parts.visit, parts.example, *asked],
            [*shown, parts.example], api_name="choose", **quick,
        )  # fmt: skip
        if parts.has_picture:
            self._wire_picture()
        self._wire_words(page)
        for button, handler in ((parts.as_json, self.save_json), (parts.as_page, self.save_page)):
            saved = button.click(handler, parts.visit, [parts.problem, *parts.file], api_visibility="private")
            saved.success(None, parts.file, None, js=SAVE, api_visibility="private")

    def _typed(self) -> list[Any]:
        """Every way in which a visitor changes what the panels answer."""
        parts = self.parts
        files = [card.file for card in parts.form.cards if isinstance(card.modality, FILES)]
        # "input" of a text box is sent by keys alone (Gradio 6.31): what is pasted comes as "change" only
        typed = [
            field.change if isinstance(field, gr.Textbox) else field.input
            for field in parts.form.inputs
            if field not in files
        ]
        dropped = [event for file in files for event in (file.upload, file.clear, file.delete)]
        costs = [cost.input for cost in parts.costs.values()]
        return [*typed, *dropped, parts.task.input, parts.order.input, *costs]

    def _wire_picture(self) -> None:
        parts = self.parts
        self._slow("heat", parts.mark.click, self.show_heat, [parts.visit])
        looks = [parts.visit, parts.phrase, parts.threshold, parts.opacity]
        chosen = parts.suggested.input(
            lambda text: text, parts.suggested, parts.phrase, api_visibility="private"
        )
        for event in (chosen.then, parts.phrase.submit, parts.threshold.release):
            self._slow("masks", event, self.search, looks)
        gr.on(
            [parts.opacity.release, parts.slice.release], self.redraw,
            [parts.visit, parts.opacity, parts.slice], [parts.problem, parts.results["masks"]],
            api_visibility="private",
        )  # fmt: skip

    def _wire_words(self, page: gr.Blocks) -> None:
        parts = self.parts
        self._slow("report", parts.write.click, self.report, [parts.visit])
        self._slow("where", parts.results["report"].click, self.point, [parts.visit])
        self._slow("reply", parts.question.submit, self.reply, [parts.visit, parts.question])
        gr.on(
            [page.load, parts.tick.tick], self.ticked, parts.waiting, [parts.waiting, parts.tick],
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip

    def _slow(self, kind: str, event: Callable, handler: Callable, inputs: Sequence[Any]) -> None:
        """A button whose answer takes its time: it is put down first, and shown if it still is welcome."""
        parts, room = self.parts, "words" if kind in ("report", "reply") else "picture"
        asked = event(
            handler, [*inputs], [parts.problem, parts.arrived[kind]], concurrency_id=room,
            trigger_mode="once", api_visibility="private",
        )  # fmt: skip
        shown = [parts.arrived[kind], parts.stale, *parts.results.values()]
        shown += [parts.slice] if parts.has_picture else []
        asked.then(
            functools.partial(self.landed, kind), [parts.visit, parts.arrived[kind]], shown,
            show_progress="hidden", api_visibility="private",
        )  # fmt: skip

    # ---- the patient

    @speaks_plainly
    def choose(
        self, visit: Visit, name: str | None, task: str | None = None, order: Any = None, *costs: Any
    ) -> Mapping[Any, Any]:
        """Another example patient: the form is filled, everything is asked anew."""
        parts, examples = self.parts, self.cast.examples
        name = name if name in examples else next(iter(examples), None)
        new = Visit(token=secrets.token_hex(8))
        values = parts.form.filled(new.record)
        if name is not None:
            new.kept = kept_of(examples[name], self.cast.model.schema)
            values = parts.form.filled(examples[name])
        entered = parts.form.read(values, new.kept)
        if name is not None:
            new.example_key, new.best = as_json(entered.record), best_possible(self.cast, examples[name])
        wiped = dict.fromkeys(parts.results.values(), "") | {parts.example: name}
        typed = dict(zip(parts.form.inputs, values, strict=True))
        return wiped | typed | self._look(new, entered, self._asked(task, order, costs))

    @speaks_plainly
    def update(self, visit: Visit, task: str, order: Any, *values: Any) -> Mapping[Any, Any]:
        """A switch, a cell, a file, the order: the answers for what is there now."""
        costs, typed = values[: len(self.parts.costs)], values[len(self.parts.costs) :]
        entered, asked = self.parts.form.read(typed, visit.kept), self._asked(task, order, costs)
        had, has = visit.record.present, entered.record.present
        arrived = tuple(name for name in has if name not in (*had, *entered.on))  # is meant to be used
        entered = replace(entered, on=(*entered.on, *arrived))
        if self._state(entered, asked) == visit.last:  # a note says "change" when an example fills it, too
            return {}
        switches = {card.switch: True for card in self.parts.form.cards if card.name in arrived}
        return switches | self._look(visit, entered, asked)

    def _asked(self, task: str | None, order: Any, costs: Sequence[Any]) -> Asked:
        parts, names = self.parts, self.cast.modalities
        told = {name: float(cost) for name, cost in zip(parts.costs, costs, strict=False) if cost}
        return Asked(task if task in parts.tasks else parts.tasks[0], tuple(in_order(order, names)), told)

    def _state(self, entered: Entered, asked: Asked) -> tuple[Any, ...]:
        return as_json(entered.record), frozenset(entered.on), tuple(entered.problems.items()), asked

    def _look(self, visit: Visit, entered: Entered, asked: Asked) -> dict[Any, Any]:
        """The quick panels. What cannot be answered is said in their place: no old answer is left there."""
        parts = self.parts
        visit.problems = tuple(f"{name}: {words}" for name, words in entered.problems.items())
        visit.last = ()
        panels = dict.fromkeys(PANELS, NOT_ANSWERED) | {"headline": NOT_ANSWERED}
        told = list(visit.problems)
        try:
            panels = look(self.cast, visit, entered.record, entered.on, asked)
            visit.last = self._state(entered, asked)
        except (ValueError, ImportError, OSError) as error:
            told.append(plain_words(error))
        except Exception:
            log.exception("The page could not answer.")
            told.append(UNFORESEEN)
        states = dict(zip(parts.form.states, parts.form.described(entered), strict=True))
        changed = {parts.panels[name]: panels[name] for name in PANELS}
        changed |= {parts.visit: visit, parts.headline: panels["headline"], parts.problem: problem(told)}
        return {**changed, **states, **self._outdated(visit)}

    def _outdated(self, visit: Visit) -> dict[Any, Any]:
        """Answers to buttons that speak of other inputs: a report is marked, the others go."""
        parts, changed = self.parts, {self.parts.stale: ""}
        for kind in KINDS:
            if kind not in visit.results or fresh(self.cast, visit, kind):
                continue
            if kind == "report":
                changed[parts.stale] = stale(visit, visit.results[kind].content[0])
            else:
                changed[parts.results[kind]] = OUTDATED
                del visit.results[kind]
        return changed

    def predicted(self, example: str, without: list[str]) -> dict:
        """The prediction for an example patient without some modalities, as JSON: the page for programs."""
        if example not in self.cast.examples:
            names = ", ".join(self.cast.examples)
            raise gr.Error(f"There is no example {example!r}. There are: {names}.", print_exception=False)
        return predict(self.cast.model, self.cast.examples[example].without(*without)).to_dict()

    # ---- what is asked for by a button

    def landed(self, kind: str, visit: Visit, result: Result | None) -> Mapping[Any, Any]:
        """Show what was asked for, unless another patient is on the page by now."""
        parts = self.parts
        changed: dict[Any, Any] = {parts.arrived[kind]: None}
        if result is None or result.token != visit.token:
            return changed
        visit.results[kind] = result
        changed[parts.results[kind]] = result.html
        if kind == "masks":
            place, last = first_slice(result.content)
            changed[parts.slice] = gr.Slider(maximum=max(last, 1), value=place or 0)
        if kind == "where" and "report" in visit.results:  # the sentence that was chosen
            changed[parts.results["report"]] = told(
                self.cast, visit.results["report"].content, result.content
            )
        return changed | self._outdated(visit)

    def _put(self, visit: Visit, kind: str, basis: str, content: Any, html: str) -> Mapping[Any, Any]:
        return {self.parts.arrived[kind]: Result(visit.token, kind, basis, content, html)}

    @speaks_plainly
    def show_heat(self, visit: Visit) -> Mapping[Any, Any]:
        """Which pixels moved the answer."""
        basis, seen = basis_of(self.cast, visit, "heat"), visit.record.only(*visit.on)
        return self._put(visit, "heat", basis, None, marked(self.cast, seen, visit.task))

    @speaks_plainly
    def search(self, visit: Visit, phrase: str, threshold: float, opacity: float) -> Mapping[Any, Any]:
        """Where a phrase points to."""
        self._need(self.cast.segmenter, "draws masks", "mask")
        basis, seen = basis_of(self.cast, visit, "masks"), visit.record.only(*visit.on)
        found = find(self.cast, seen, [phrase], threshold or None)
        return self._put(visit, "masks", basis, found, drawn(found, opacity, first_slice(found)[0]))

    @speaks_plainly
    def redraw(self, visit: Visit, opacity: float, place: float) -> Mapping[Any, Any]:
        """The same masks in another strength of colour, or another slice."""
        result = visit.results.get("masks")
        return {self.parts.results["masks"]: drawn(result.content, opacity, int(place))} if result else {}

    @speaks_plainly
    def report(self, visit: Visit) -> Mapping[Any, Any]:
        """A draft on what is on."""
        self._need(self.cast.reporter, "writes reports", "report")
        basis = basis_of(self.cast, visit, "report")
        reports = write(self.cast, visit.record.only(*visit.on), visit.record)
        return self._put(visit, "report", basis, reports, told(self.cast, reports))

    def point(self, visit: Visit, event: gr.EventData) -> Mapping[Any, Any]:
        """A sentence was chosen: where in the picture is it?"""
        result = visit.results.get("report")
        return self._point(visit, picked(event, len(result.content[0].sentences)) if result else None)

    @speaks_plainly
    def _point(self, visit: Visit, chosen: int | None) -> Mapping[Any, Any]:
        if chosen is None:
            return {}
        self._need(self.cast.segmenter, "draws masks", "mask")
        basis, seen = basis_of(self.cast, visit, "where"), visit.record.only(*visit.on)
        sentence = visit.results["report"].content[0].sentences[chosen]
        shown = elsewhere(self.cast, sentence) or drawn(find(self.cast, seen, [sentence.text], None), 0.5)
        return self._put(visit, "where", basis, chosen, shown)

    @speaks_plainly
    def reply(self, visit: Visit, question: str) -> Mapping[Any, Any]:
        """A question and its answer."""
        self._need(self.cast.reporter, "writes reports", "report")
        basis, seen = basis_of(self.cast, visit, "reply"), visit.record.only(*visit.on)
        return self._put(visit, "reply", basis, None, ask(self.cast, seen, question))

    def _need(self, model: Any, does: str, what: str) -> None:
        if model is None:
            words = self.companions.status() if self.companions else ""
            raise ValueError(f"There is no model here yet that {does}. {words or HOW_TO_GET[what]}")

    # ---- what is still being trained

    def ticked(self, shown: str) -> Mapping[Any, Any]:
        """What is still being trained, if it is another sentence; the clock stops when nothing is."""
        words = self.waiting()
        busy = bool(words) and getattr(self.companions, "busy", True)
        changed = {self.parts.tick: gr.Timer(active=busy)}
        return changed if words == shown else changed | {self.parts.waiting: words}

    def waiting(self) -> str:
        """HTML on what is still being trained, "" if nothing is."""
        words = self.companions.status() if self.companions else ""
        return f'<p class="mm-waiting" role="status">{html.escape(words)}</p>' if words else ""

    # ---- to take away

    @speaks_plainly
    def save_json(self, visit: Visit) -> Mapping[Any, Any]:
        """Everything the page knows of this patient, for programs."""
        text = json.dumps(record_of(self.cast, visit, _now()), indent=1, allow_nan=False)
        return self._saved("mmmed-record.json", text, "application/json")

    @speaks_plainly
    def save_page(self, visit: Visit) -> Mapping[Any, Any]:
        """The same as one page to print."""
        return self._saved("mmmed-record.html", page_of(self.cast, visit, _now()), "text/html")

    def _saved(self, *parts: str) -> Mapping[Any, Any]:
        return dict(zip(self.parts.file, parts, strict=True))


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
