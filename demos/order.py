"""Two small components: the order in which inputs are added, and a list of sentences that can be picked.

Both are `gr.HTML` with a few lines of JavaScript, which the page runs once, when the component appears.

What one must know of `gr.HTML` (seen in Gradio 6.31):
- The template is filled twice, first by Handlebars, then as a JavaScript template text. What `{{name}}` puts
  in from data would be run as code if it held `${...}`; only `${value}` is safe, since its content is not
  read again. Therefore the order box has a template without data and makes its chips with `textContent`.
- Setting `props.value` in JavaScript sends "change" by itself, and so does a new value from Python. An event
  that only the visitor causes is sent by `trigger("input")`; what Python gets is the new value in both cases.
- `trigger("click", {...})` reaches Python as `gr.EventData`; each key of the object is an attribute of it.
- A new value changes the elements in place, so that the button in focus stays in focus.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

_BOX = """
<div class="mm-order"><ol class="mm-order-chips" aria-label="Order in which the inputs are added"></ol>
<p class="mm-order-how">Drag a chip, or move it with the arrow keys.</p>
<p class="mm-unseen" role="status" aria-live="polite"></p></div>
"""

_DRAG = """
const list = element.querySelector('.mm-order-chips'), said = element.querySelector('.mm-unseen');
const chips = () => Array.from(list.children);
const names = () => chips().map(chip => chip.dataset.name);
let drag = null;

function label() {
  chips().forEach((chip, place, all) => chip.firstChild.setAttribute('aria-label',
    `${chip.dataset.name}, position ${place + 1} of ${all.length}; arrow keys move it`));
}
function draw() {
  const value = Array.isArray(props.value) ? props.value : [];
  if (JSON.stringify(value) === JSON.stringify(names())) return;
  list.replaceChildren(...value.map(name => {
    const chip = document.createElement('li'), button = document.createElement('button');
    const place = props.names.indexOf(name);
    button.type = 'button';
    button.className = `mm-order-chip mm-m${place < 0 ? 6 : place % 7}`;
    button.textContent = name;
    chip.dataset.name = name;
    chip.append(button);
    return chip;
  }));
  label();
}
function tell() {
  label();
  if (JSON.stringify(names()) === JSON.stringify(props.value)) return;
  props.value = names();
  trigger('input');
}
function move(chip, place) {
  const all = chips(), from = all.indexOf(chip);
  place = Math.min(Math.max(place, 0), all.length - 1);
  if (place === from) return;
  list.insertBefore(chip, place > from ? all[place].nextSibling : all[place]);
  chip.firstChild.focus();  // an element that is moved loses it
  said.textContent = `${chip.dataset.name} is now at position ${place + 1} of ${all.length}.`;
  tell();
}
list.addEventListener('keydown', event => {
  const chip = event.target.closest('li');
  if (event.key === 'Escape' && drag) return stop(true);
  if (!chip || event.altKey || event.ctrlKey || event.metaKey) return;
  const from = chips().indexOf(chip);
  const to = {ArrowLeft: from - 1, ArrowUp: from - 1, ArrowRight: from + 1, ArrowDown: from + 1,
              Home: 0, End: chips().length - 1}[event.key];
  if (to === undefined) return;
  event.preventDefault();
  move(chip, to);
});
// While a chip is dragged its neighbours step aside: were the chip itself moved, it would lose the pointer.
function pass(x, y) {
  const before = chip => {
    const box = chip.getBoundingClientRect();
    return y > box.bottom || (y >= box.top && x > (box.left + box.right) / 2);
  };
  const all = chips(), from = all.indexOf(drag.chip);
  for (const chip of all.slice(from + 1)) if (before(chip)) list.insertBefore(chip, drag.chip);
  let after = drag.chip.nextSibling;
  for (const chip of all.slice(0, from)) if (!before(chip)) list.insertBefore(chip, after);
}
list.addEventListener('pointerdown', event => {
  const chip = event.target.closest('li');
  if (!chip || event.button !== 0 || !event.isPrimary) return;
  const box = chip.getBoundingClientRect();
  drag = {chip, id: event.pointerId, start: names(), x: event.clientX - box.left, y: event.clientY - box.top};
  chip.firstChild.setPointerCapture(event.pointerId);
});
list.addEventListener('pointermove', event => {
  if (!drag || event.pointerId !== drag.id) return;
  pass(event.clientX, event.clientY);
  drag.chip.classList.add('mm-dragged');
  drag.chip.style.transform = 'none';
  const box = drag.chip.getBoundingClientRect();
  const x = event.clientX - drag.x - box.left, y = event.clientY - drag.y - box.top;
  drag.chip.style.transform = `translate(${x}px, ${y}px)`;
});
function stop(undo) {
  if (!drag) return;
  const {chip, start} = drag;
  drag = null;
  chip.classList.remove('mm-dragged');
  chip.style.transform = '';
  if (undo) start.forEach(name => list.append(chips().find(other => other.dataset.name === name)));
  if (JSON.stringify(start) !== JSON.stringify(names())) {
    said.textContent = `New order: ${names().join(', ')}.`;
  }
  tell();
}
list.addEventListener('pointerup', () => stop(false));
list.addEventListener('pointercancel', () => stop(true));
watch('value', draw);
draw();
"""

_PICK = """
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-sentence]');
  if (button) trigger('click', {sentence: Number(button.dataset.sentence)});
});
"""


def order_box(names: Sequence[str], elem_id: str) -> gr.HTML:
    """Chips that are dragged with mouse or finger, or moved with the arrow keys, Home and End.

    names: in the order in which they start; their places give the colours (`mm-m0` ...). The value is a list
    of names. Listen with `.input` for what the visitor does, or `.change` for every new value. It comes from
    a browser: pass it through `in_order` before it is used.
    """
    return gr.HTML(
        value=list(names),
        names=list(names),
        html_template=_BOX,
        js_on_load=_DRAG,
        apply_default_css=False,
        elem_id=elem_id,
    )


def in_order(value: Any, names: Sequence[str]) -> list[str]:
    """The names in the order that came from the page: each once, no unknown one, forgotten ones last."""
    came = [name for name in value if isinstance(name, str)] if isinstance(value, (list, tuple)) else []
    known = [name for name in dict.fromkeys(came) if name in names]
    return known + [name for name in names if name not in known]


def sentence_list(elem_id: str, value: str = "") -> gr.HTML:
    """Shows what `panels.report.sentences` gives and says which sentence was clicked, or chosen by keyboard.

    Listen with `.click(function)`, where the function has a parameter `event: gr.EventData`; the place of the
    sentence is `picked(event, count)`.
    """
    return gr.HTML(value=value, js_on_load=_PICK, apply_default_css=False, elem_id=elem_id)


def picked(event: gr.EventData, count: int) -> int | None:
    """The place of the sentence that was clicked; None if what came from the page is no place of `count`."""
    try:
        place = event.sentence
    except (AttributeError, TypeError):  # an event without data
        return None
    good = isinstance(place, int) and not isinstance(place, bool) and 0 <= place < count
    return place if good else None
