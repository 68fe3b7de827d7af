"""What the demo's page looks like: the canvas, and a network's answer as HTML.

One colour language throughout: orange is positive, blue negative, black 0.
"""

import base64
import html
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

POSITIVE, NEGATIVE = (255, 138, 31), (59, 139, 255)
"""The colours of the largest positive and of the largest negative number, RGB."""
UNDERLAY = 0.3
"""How bright the picture shines through the map of its pixels, a share of its own brightness."""
MOST_BARS = 12
"""Classes shown in their own order; of more, the most probable."""
SHOWN_UNITS = 4096
"""Units of a layer that are drawn at most."""


@dataclass(frozen=True)
class Answer:
    """What one network makes of one picture.

    Args:
        name: The run's.
        description: Of the run, one line.
        class_names: In the order of the classes; empty for regression.
        image: What the network sees, uint8 (height, width).
        inverted: Whether the picture was inverted for it.
        centered: Whether its ink was moved and scaled to where MNIST has it.
        probabilities: One per class, (classes,), or None for regression.
        value: A regression's output in the target's unit, or None.
        unit: Of `value`, may be empty.
        decision: Index of the class decided for.
        hidden: Each hidden layer's outputs, (units,).
        attribution: What each pixel adds to the answer, (height, width).
    """

    name: str
    description: str
    class_names: tuple[str, ...]
    image: Tensor
    inverted: bool
    centered: bool
    probabilities: Tensor | None
    value: float | None
    unit: str
    decision: int
    hidden: list[Tensor]
    attribution: Tensor

    @property
    def is_sound(self) -> bool:
        """Whether the network's outputs are numbers, which a diverged one's are not."""
        numbers = self.probabilities if self.probabilities is not None else torch.tensor(self.value)
        return bool(numbers.isfinite().all())


def png_url(pixels: "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]") -> str:
    """A data URL of a picture, uint8 (height, width) or (height, width, 3 or 4)."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def signed_colors(values: Tensor, underlay: Tensor | None = None) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """Numbers as colours, uint8 (height, width, 3): the largest in size gets the full colour.

    Args:
        values: (height, width); what is not finite counts as 0.
        underlay: Gray levels 0–255, (height, width), that shine through where a number is small.
    """
    values = torch.nan_to_num(values.float(), 0.0, 0.0, 0.0)
    share = (values / values.abs().max().clamp_min(1e-30))[..., None]  # in [−1, 1]
    color = torch.where(share > 0, torch.tensor(POSITIVE), torch.tensor(NEGATIVE)).float()
    ground = torch.zeros(()) if underlay is None else UNDERLAY * underlay.float()[..., None]
    return (ground + (color - ground) * share.abs()).round().to(torch.uint8).numpy()


def unit_colors(outputs: Tensor) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """A layer's outputs as a grid of coloured squares in reading order, uint8 RGBA (rows, columns, 4).

    About twice as wide as high; what the last row lacks is transparent.

    Args:
        outputs: (units,).
    """
    outputs = outputs[:SHOWN_UNITS]
    columns = min(2 ** round(math.log2(max(2 * len(outputs), 1)) / 2 + 0.25), len(outputs))
    rows = -(-len(outputs) // columns)
    padded = torch.zeros(rows * columns)
    padded[: len(outputs)] = outputs
    opacity = torch.arange(rows * columns) < len(outputs)
    colors = signed_colors(padded.view(rows, columns))
    return np.concatenate((colors, opacity.view(rows, columns, 1).numpy() * np.uint8(255)), 2)


def empty_page(names: Sequence[str], class_names: Sequence[str]) -> str:
    """What stands in the answers' place while there is no picture."""
    knows = ""
    if class_names:
        chips = "".join(f"<span>{html.escape(name)}</span>" for name in class_names[:60])
        knows = (
            "<p>It knows these classes, and takes whatever it is given for one of them:</p>"
            f"<div class=mlp-chips>{chips}</div>"
        )
    which = "This network is waiting" if len(names) == 1 else f"These {len(names)} networks are waiting"
    runs = "".join(f"<li>{html.escape(name)}</li>" for name in names)
    return (
        f"<div class='mlp-page mlp-empty' data-state=empty><h2>Draw something on the square.</h2>"
        f"<p>Press the mouse and move it; the answer is there while you draw. A picture file can be dropped on the "
        f"square too.</p><p>{which}:</p><ul>{runs}</ul>{knows}</div>"
    )


def error_page(cause: str, remedy: str) -> str:
    """What stands in the answers' place when there can be none."""
    return (
        f"<div class='mlp-page mlp-error' data-state=error role=alert><h2>{html.escape(_sentence(cause))}</h2>"
        f"<p>{html.escape(_sentence(remedy))}</p></div>"
    )


def answer_page(answers: Sequence[Answer], truth: str, seconds: float) -> str:
    """All networks' answers to one picture, side by side, panel by panel.

    Args:
        answers: One per run.
        truth: What the picture shows, if that is known.
        seconds: That the answers took.
    """
    is_class = all(answer.probabilities is not None for answer in answers)
    says = (
        "The probability given to each class. They add up to 100 %, whatever the picture shows."
        if is_class
        else "The number at the network's one output."
    )
    same = all(torch.equal(answer.image, answers[0].image) for answer in answers)
    seen = answers[:1] if same else answers
    panels = [
        _panel("answer", "The answer", says, answers, lambda answer: _answer(answer, truth)),
        _panel("sees", "What it sees", "The input: one gray level per input neuron.", seen, _seen),
        _panel(
            "pixels",
            "Which pixels matter",
            "Orange speaks for this answer, blue against it."
            if is_class
            else "Orange raises the number, blue lowers it.",
            answers,
            _weighed,
        ),
        _panel(
            "layers",
            "What the hidden layers do",
            "One square per unit, as bright as its output is large: orange above 0, blue below, black 0.",
            answers,
            _layers,
        ),
    ]
    several = (" mlp-several" + " mlp-same" * same) if len(answers) > 1 else ""
    return (
        f"<div class='mlp-page{several}' data-state=answer data-server-ms='{1000 * seconds:.1f}'>{''.join(panels)}"
        f"<p class=mlp-time>Answered in {1000 * seconds:.0f} ms.</p></div>"
    )


def _panel(kind: str, title: str, says: str, answers: Sequence[Answer], content: Callable[[Answer], str]) -> str:
    cells = []
    for answer in answers:
        described = f"<span>{html.escape(answer.description)}</span>" if kind == "answer" else ""
        head = f"<h3>{html.escape(answer.name)}{described}</h3>" if len(answers) > 1 or kind == "answer" else ""
        cells.append(f"<div class=mlp-cell>{head}{content(answer)}</div>")
    return (
        f"<section class='mlp-panel mlp-{kind}'><h2>{title}</h2><p class=mlp-says>{says}</p>"
        f"<div class=mlp-cells>{''.join(cells)}</div></section>"
    )


def _answer(answer: Answer, truth: str) -> str:
    if not answer.is_sound:
        return "<p class=mlp-verdict>no answer</p><p>This network's outputs are not numbers: its training diverged.</p>"
    known = f"<p class=mlp-truth>The test set says: <b>{html.escape(truth)}</b></p>" if truth else ""
    if answer.probabilities is None:
        unit = f" {html.escape(answer.unit)}" if answer.unit else ""
        return f"<p class=mlp-verdict>{answer.value:.2f}{unit}</p>{known}"
    shares = answer.probabilities.tolist()
    order = list(range(len(shares)))
    rest = ""
    if len(shares) > MOST_BARS:
        order = sorted(order, key=lambda index: -shares[index])[:MOST_BARS]
        rest = f"<p class=mlp-rest>and {len(shares) - MOST_BARS} classes less probable than these</p>"
    bars = []
    for index in order:
        name, chosen = html.escape(answer.class_names[index]), " chosen" if index == answer.decision else ""
        bars.append(
            f"<div class='mlp-bar{chosen}' data-share='{shares[index]:.4f}'><span class=name title='{name}'>{name}"
            f"</span><span class=track><i style='width:{100 * shares[index]:.2f}%'></i></span>"
            f"<span class=share>{_percent(shares[index])}</span></div>"
        )
    name = html.escape(answer.class_names[answer.decision])
    return (
        f"<p class=mlp-verdict>{name} <small>{_percent(shares[answer.decision])}</small></p>{known}"
        f"<div class=mlp-bars>{''.join(bars)}</div>{rest}"
    )


def _percent(share: float) -> str:
    """A share in per cent that is 0 or 100 only if it is."""
    if 0 < share < 0.001:
        return "&lt; 0.1 %"
    return "&gt; 99.9 %" if 0.999 < share < 1 else f"{100 * share:.1f} %"


def _seen(answer: Answer) -> str:
    done = [words for words, is_so in (("inverted", answer.inverted), ("centred by mass", answer.centered)) if is_so]
    shape = " × ".join(map(str, answer.image.shape))
    return _figure(png_url(answer.image.numpy()), "the network's input", ", ".join([f"{shape} pixels", *done]) + ".")


def _weighed(answer: Answer) -> str:
    about = f"For “{answer.class_names[answer.decision]}”." if answer.class_names else "For the number."
    picture = png_url(signed_colors(answer.attribution, answer.image))
    return _figure(picture, "each pixel's share in the answer", html.escape(about))


def _layers(answer: Answer) -> str:
    if not answer.hidden:
        return "<p>There are none: every output is one weighted sum of the pixels.</p>"
    figures = []
    for number, outputs in enumerate(answer.hidden, 1):
        pixels = unit_colors(outputs)
        active = int((outputs > 0).sum())
        beyond = f", the first {SHOWN_UNITS:,} drawn" if len(outputs) > SHOWN_UNITS else ""
        caption = f"<b>Layer {number}</b>: {active:,} of {len(outputs):,} units above 0{beyond}"
        figures.append(
            _figure(
                png_url(pixels),
                f"outputs of hidden layer {number}",
                caption,
                pixels.shape[1] * (22, 10)[pixels.shape[1] > 16],
            )
        )
    return f"<div class=mlp-figures>{''.join(figures)}</div>"


def _figure(url: str, meaning: str, caption: str, width: int | None = None) -> str:
    style = f" style='width:{width}px'" if width else ""
    return f"<figure><img src='{url}' alt='{meaning}'{style}><figcaption>{caption}</figcaption></figure>"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


CANVAS = """
<div class="mlp-canvas">
  <div class="mlp-paper">
    <canvas width="${width}" height="${height}" aria-label="Drawing area"></canvas><span>draw here</span>
  </div>
  <div class="mlp-tools">
    <button type="button" data-do="clear">Clear</button>
    <button type="button" data-do="undo">Undo</button>
    <button type="button" data-do="paper">White paper</button>
    <button type="button" data-do="file">Open picture</button>
    <input type="file" accept="image/*" hidden>
  </div>
</div>
"""
"""The drawing area's HTML."""
CANVAS_SCRIPT = """
const PAUSE_MS = 60;  // at most so often a drawing is sent while the pen moves
const canvas = element.querySelector('canvas'), chooser = element.querySelector('input');
const pen = canvas.getContext('2d', { willReadFrequently: true });
const whole = () => [0, 0, canvas.width, canvas.height];
// source: the file that is shown, as long as nothing is drawn on it
let state = { kind: 'drawn', truth: '', source: null, blank: true }, paper = 'black';
let before = [], last = null, timer = null;

const invite = () => element.querySelector('.mlp-canvas').classList.toggle('blank', state.blank);
function send() {
  invite();
  clearTimeout(timer);
  timer = null;
  const picture = state.source ?? canvas.toDataURL('image/png');
  props.value = state.blank ? '' : JSON.stringify({ picture, kind: state.kind, truth: state.truth, paper });
  trigger('input');
}
function sendSoon() { timer ??= setTimeout(send, PAUSE_MS); }
function remember() {
  before.push({ state: { ...state }, paper, pixels: pen.getImageData(...whole()) });
  if (before.length > 40) before.shift();
}
function wipe() {
  pen.fillStyle = paper;
  pen.fillRect(...whole());
  state = { kind: 'drawn', truth: '', source: null, blank: true };
}
function cornerIsLight() {
  const [r, g, b] = pen.getImageData(1, 1, 1, 1).data;
  return r + g + b > 382;
}
function place(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width * canvas.width,
          (event.clientY - box.top) / box.height * canvas.height];
}
function draw(event) {
  const point = place(event);
  pen.lineWidth = Math.min(canvas.width, canvas.height) / 13;
  pen.lineCap = pen.lineJoin = 'round';
  pen.strokeStyle = cornerIsLight() ? 'black' : 'white';
  pen.beginPath();
  pen.moveTo(...(last ?? point));
  pen.lineTo(...point);
  pen.stroke();
  last = point;
  Object.assign(state, { source: null, truth: '', blank: false });
  sendSoon();
}
function show(url, kind, truth) {
  remember();
  const image = new Image();
  image.onload = () => {
    wipe();
    const scale = Math.min(canvas.width / image.width, canvas.height / image.height);
    const width = image.width * scale, height = image.height * scale;
    const left = (canvas.width - width) / 2, top = (canvas.height - height) / 2;
    pen.imageSmoothingEnabled = scale < 1;
    pen.drawImage(image, left, top, width, height);
    const ground = pen.getImageData(Math.ceil(left) + 1, Math.ceil(top) + 1, 1, 1).data;
    pen.fillStyle = `rgb(${ground[0]}, ${ground[1]}, ${ground[2]})`;
    pen.fillRect(...whole());
    pen.drawImage(image, left, top, width, height);
    state = { kind, truth, source: url, blank: false };
    send();
  };
  image.onerror = () => {  // the browser cannot show it; whether the network can see it, it says itself
    wipe();
    state = { kind, truth, source: url, blank: false };
    send();
  };
  image.src = url;
}
function open(file) {
  if (!file) return;
  const reader = new FileReader();
  reader.onload = () => show(reader.result, 'file', '');
  reader.readAsDataURL(file);
}
const actions = {
  clear() { remember(); wipe(); send(); },
  undo() {
    const previous = before.pop();
    if (!previous) return;
    pen.putImageData(previous.pixels, 0, 0);
    state = previous.state;
    setPaper(previous.paper);
    send();
  },
  paper() {
    remember();
    setPaper(paper === 'black' ? 'white' : 'black');
    if (state.kind !== 'drawn') wipe();
    else {
      const pixels = pen.getImageData(...whole());
      for (let i = 0; i < pixels.data.length; i++) if (i % 4 < 3) pixels.data[i] = 255 - pixels.data[i];
      pen.putImageData(pixels, 0, 0);
    }
    send();
  },
  file() { chooser.click(); },
};
function setPaper(color) {
  paper = color;
  element.querySelector('[data-do=paper]').textContent = paper === 'black' ? 'White paper' : 'Black paper';
}

wipe();
canvas.addEventListener('pointerdown', (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  remember();
  last = null;
  draw(event);
});
canvas.addEventListener('pointermove', (event) => {
  if (!canvas.hasPointerCapture(event.pointerId)) return;
  for (const part of event.getCoalescedEvents?.() ?? [event]) draw(part);
  if (last === null) draw(event);
});
canvas.addEventListener('pointerup', (event) => { if (canvas.hasPointerCapture(event.pointerId)) send(); });
for (const button of element.querySelectorAll('[data-do]'))
  button.addEventListener('click', () => actions[button.dataset.do]());
chooser.addEventListener('change', () => { open(chooser.files[0]); chooser.value = ''; });
canvas.addEventListener('dragover', (event) => event.preventDefault());
canvas.addEventListener('drop', (event) => { event.preventDefault(); open(event.dataTransfer.files[0]); });
document.addEventListener('paste', (event) => open(event.clipboardData?.files[0]));
watch('value', () => {  // from the server come test pictures alone
  if (!props.value) return;
  const { picture, kind, truth } = JSON.parse(props.value);
  if (kind === 'example' && picture !== state.source) show(picture, kind, truth);
});
invite();  // last: from here on one can draw
"""
"""What the drawing area does: it sends JSON with picture (a data URL), kind, truth and paper, or nothing when blank."""
CSS = f"""
.gradio-container {{
  --mlp-quiet: color-mix(in srgb, var(--body-text-color) 66%, transparent);
  --block-info-text-color: var(--mlp-quiet);
  width: 100%; max-width: 1280px !important; margin: 0 auto;
}}
.mlp-head h1 {{ margin: 0.2rem 0 0; font-size: 1.6rem; font-weight: 650; }}
.mlp-head p {{ margin: 0.2rem 0 0.4rem; color: var(--mlp-quiet); }}
.mlp-left {{ max-width: 340px; }}
:is(.mlp-left, .mlp-head, #answer) .html-container, .mlp-head.html-container {{ padding: 0 !important; }}
.mlp-paper {{ position: relative; max-width: 320px; }}
.mlp-paper span {{
  position: absolute; inset: 0; display: none; place-content: center; color: #888; pointer-events: none;
}}
.blank .mlp-paper span {{ display: grid; }}
.mlp-canvas canvas {{
  display: block; width: 100%; border-radius: 10px; cursor: crosshair; touch-action: none;
  border: 1px solid var(--border-color-primary);
}}
.mlp-tools {{ display: grid; grid-template-columns: 1fr 1fr; gap: 6px; max-width: 320px; margin-top: 8px; }}
.mlp-tools button {{
  padding: 6px 8px; border-radius: 6px; border: 1px solid var(--border-color-primary); font-size: 0.85rem;
  background: var(--button-secondary-background-fill); color: var(--button-secondary-text-color); cursor: pointer;
}}
.mlp-tools button:hover {{ background: var(--button-secondary-background-fill-hover); }}
.mlp-page {{
  display: grid; gap: 12px; color: var(--body-text-color);
  grid-template-columns: minmax(0, 1.8fr) minmax(0, 1fr) minmax(0, 1fr);
}}
.mlp-panel, .mlp-empty, .mlp-error {{
  padding: 12px 16px; border: 1px solid var(--border-color-primary); border-radius: 10px;
  background: var(--block-background-fill); min-width: 0;
}}
.mlp-empty, .mlp-error {{ display: block; min-height: 320px; }}
.mlp-error {{ border-color: rgb{POSITIVE}; min-height: 0; overflow-wrap: anywhere; }}
.mlp-page h2 {{ margin: 0; font-size: 1.05rem; font-weight: 650; }}
.mlp-page h3 {{ margin: 0 0 2px; font-size: 0.85rem; font-weight: 600; overflow-wrap: anywhere; }}
.mlp-page h3 span {{ display: block; font-weight: 400; color: var(--mlp-quiet); }}
.mlp-page ul {{ margin: 4px 0 12px 1.2em; list-style: disc; }}
.mlp-says {{ margin: 2px 0 10px; font-size: 0.85rem; color: var(--mlp-quiet); }}
.mlp-layers, .mlp-time, .mlp-several .mlp-panel {{ grid-column: 1 / -1; }}
.mlp-cells {{ display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(240px, 100%), 1fr)); }}
.mlp-cell {{ min-width: 0; }}
.mlp-verdict {{ margin: 6px 0 8px; font-size: 2rem; line-height: 1.15; font-weight: 700; overflow-wrap: anywhere; }}
.mlp-verdict small {{ white-space: nowrap; font-size: 1.1rem; font-weight: 500; color: var(--mlp-quiet); }}
.mlp-several .mlp-verdict {{ font-size: 1.5rem; }}
.mlp-several .mlp-verdict small {{ font-size: 1rem; }}
.mlp-truth {{ margin: -4px 0 8px; }}
.mlp-bars {{ display: grid; grid-template-columns: fit-content(45%) 1fr max-content; column-gap: 8px; }}
.mlp-bar {{
  display: grid; grid-column: 1 / -1; grid-template-columns: subgrid; align-items: center; font-size: 0.88rem;
  line-height: 1.6;
}}
.mlp-bar .name {{ overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }}
.mlp-bar .track {{
  height: 12px; border-radius: 6px; background: color-mix(in srgb, var(--body-text-color) 9%, transparent);
  overflow: hidden;
}}
.mlp-bar .track i {{ display: block; height: 100%; background: var(--mlp-quiet); }}
.mlp-bar.chosen {{ font-weight: 700; }}
.mlp-bar.chosen .track i {{ background: rgb{POSITIVE}; }}
.mlp-bar .share {{ min-width: 4.9em; white-space: nowrap; text-align: right; font-variant-numeric: tabular-nums; }}
.mlp-rest, .mlp-time, .mlp-page figcaption {{ font-size: 0.8rem; color: var(--mlp-quiet); }}
.mlp-page figure {{ margin: 0; }}
.mlp-page img {{
  display: block; width: 196px; max-width: 100%; height: auto; image-rendering: pixelated; border-radius: 4px;
}}
.mlp-page figcaption {{ margin-top: 4px; }}
.mlp-figures {{ display: flex; flex-wrap: wrap; gap: 16px 24px; }}
.mlp-figures figure {{ max-width: 100%; }}
.mlp-chips {{ display: flex; flex-wrap: wrap; gap: 6px; margin-top: 6px; }}
.mlp-chips span {{
  padding: 2px 10px; border-radius: 99px; border: 1px solid var(--border-color-primary); font-size: 0.88rem;
}}
.mlp-several {{ grid-template-columns: 230px minmax(0, 1fr); }}
.mlp-same .mlp-panel:is(.mlp-sees, .mlp-pixels) {{ grid-column: auto; }}
.mlp-same .mlp-sees .mlp-cells {{ margin-top: 1.4em; }}
@media (max-width: 1150px) {{
  .mlp-page:not(.mlp-several) {{ grid-template-columns: minmax(0, 1.5fr) minmax(0, 1fr); }}
  .mlp-page:not(.mlp-several) .mlp-answer {{ grid-row: span 2; }}
}}
@media (max-width: 800px) {{
  .mlp-page.mlp-page {{ grid-template-columns: minmax(0, 1fr); }}
  .mlp-page .mlp-panel.mlp-panel {{ grid-column: auto; grid-row: auto; }}
}}
"""
"""The page's style, in the colours of Gradio's theme, light or dark."""
