const PAUSE_MS = 60;  // at most so often a drawing is sent while the pen moves
const MAX_BYTES = 10000000;  // of a picture file; app.py has the same number
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
  if (state.kind === 'too large') state.kind = 'drawn';
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
  if (file.size > MAX_BYTES) return show('', 'too large', '');
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

// what there is to begin with; texts are a stranger's, so they are set as text
for (const { title, pictures } of props.gallery ?? []) {
  const group = document.createElement('div'), heading = document.createElement('h2'), row = document.createElement('div');
  heading.textContent = title;
  group.append(heading, row);
  for (const { picture, truth, caption } of pictures) {
    const button = document.createElement('button'), image = document.createElement('img');
    button.type = 'button';
    button.title = caption;
    button.ariaLabel = `${title}: ${caption}`;
    image.src = picture;
    image.alt = '';
    button.append(image);
    button.addEventListener('click', () => show(picture, 'example', truth));
    row.append(button);
  }
  element.querySelector('.mlp-gallery').append(group);
}

// the keyboard's pen: where it is, as shares of the canvas, and whether it is on the paper
const mark = element.querySelector('.mlp-pen'), STEP = 0.025;
const ways = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
let held = [0.5, 0.5], lowered = false;
function byKey() {
  const box = canvas.getBoundingClientRect();
  return { clientX: box.left + held[0] * box.width, clientY: box.top + held[1] * box.height };
}
function showPen() {
  mark.style.left = `${100 * held[0]}%`;
  mark.style.top = `${100 * held[1]}%`;
  mark.classList.toggle('down', lowered);
}
canvas.addEventListener('focus', () => { mark.hidden = !canvas.matches(':focus-visible'); showPen(); });
canvas.addEventListener('blur', () => { mark.hidden = true; lowered = false; });
canvas.addEventListener('keydown', (event) => {
  const way = ways[event.key];
  if (!way && event.key !== ' ') return;
  event.preventDefault();
  mark.hidden = false;
  if (way) held = held.map((share, axis) => Math.min(Math.max(share + STEP * way[axis], 0), 1));
  else if ((lowered = !lowered)) { remember(); last = null; }
  if (lowered) draw(byKey());
  showPen();
});

// a screen reader hears the answer once it has come to rest
const spoken = element.querySelector('.mlp-spoken');
let speak = null;
new MutationObserver(() => {
  clearTimeout(speak);
  speak = setTimeout(() => {
    const parts = document.querySelectorAll('#answer .mlp-strange b, #answer .mlp-verdict, #answer .mlp-error h2');
    const said = [...parts].map((part) => part.textContent.trim().replace(/\.$/, '')).join('. ');
    if (spoken.textContent !== said) spoken.textContent = said;
  }, 700);
}).observe(document.querySelector('#answer') ?? document.body, { childList: true, subtree: true });

wipe();
canvas.addEventListener('pointerdown', (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  mark.hidden = true;
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
