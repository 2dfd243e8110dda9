// The viewer: the X-ray on one canvas, the map on another over it. Zoom, pan, window and inversion by mouse, touch and key.

const $ = id => document.getElementById(id);
const view = {zoom: 1, x: 0, y: 0, width: 255, level: 127.5}; // where the centre lies, CSS pixels off the box's; the window, grey levels
const state = {inverted: false, map: false, strength: .5, windowing: false};
let picture = null; // {width, height, full, small}, as the worker draws it
let tiles = null;   // the map, a pixel per cell
let planned = false;

function redraw() { // once for all that changes between two frames
  if (!planned) requestAnimationFrame(() => { planned = false; paintAll(); });
  planned = true;
}

function place() { // of the X-ray, CSS pixels; it leaves no edge of the box empty that it could cover
  const {clientWidth: w, clientHeight: h} = $('view');
  const scale = Math.min(w/picture.width, h/picture.height)*view.zoom, width = picture.width*scale, height = picture.height*scale;
  const within = (v, free) => Math.max(-free, Math.min(free, v));
  view.x = within(view.x, Math.max(0, (width - w)/2));
  view.y = within(view.y, Math.max(0, (height - h)/2));
  return {left: (w - width)/2 + view.x, top: (h - height)/2 + view.y, width, height, scale};
}

function paint(canvas, source, {left, top, width, height}, alpha = 1) {
  const {clientWidth: w, clientHeight: h} = $('view'), dots = devicePixelRatio, pen = canvas.getContext('2d');
  [canvas.width, canvas.height] = [Math.round(w*dots), Math.round(h*dots)]; // which empties it, too
  if (!source) return;
  pen.setTransform(dots*width/source.width, 0, 0, dots*height/source.height, dots*left, dots*top);
  pen.globalAlpha = alpha;
  pen.imageSmoothingQuality = 'medium';
  pen.drawImage(source, 0, 0);
}

function paintAll() {
  $('xray').hidden = $('map').hidden = !picture;
  if (!picture) return;
  const at = place(), needed = at.scale*devicePixelRatio*picture.width;
  paint($('xray'), needed > picture.small.width ? picture.full : picture.small, at);
  paint($('map'), state.map ? tiles : null, at, state.strength);
  const slope = (state.inverted ? -1 : 1)*255/view.width, start = .5 - view.level/view.width;
  for (const channel of $('window').querySelectorAll('feFuncR, feFuncG, feFuncB')) {
    channel.setAttribute('slope', slope);
    channel.setAttribute('intercept', state.inverted ? 1 - start : start);
  }
  $('view').classList.toggle('zoomed', view.zoom > 1 || state.windowing);
  $('window-shown').textContent = `${Math.round(100*at.scale*devicePixelRatio)}%, window ${Math.round(view.width)}, level ${Math.round(view.level)}`;
  Object.assign($('view').dataset, {zoom: view.zoom, x: view.x, y: view.y, width: view.width, level: view.level,
    inverted: state.inverted, map: state.map});
  for (const [id, on] of [['map-key', state.map], ['invert', state.inverted], ['windowing', state.windowing]])
    $(id).setAttribute('aria-pressed', on);
  $('legend').hidden = !(state.map && tiles);
}

function showPicture(next, map) {
  for (const bitmap of [picture?.full, picture?.small]) bitmap?.close();
  picture = next;
  tiles = map && colourTiles(map);
  reset();
}

function colourTiles({rows, columns, values}) { // orange for the positive class, blue against it
  const image = new ImageData(columns, rows), canvas = new OffscreenCanvas(columns, rows), most = Math.max(...values.map(Math.abs)) || 1;
  values.forEach((v, i) => image.data.set([...(v > 0 ? [255, 120, 0] : [40, 130, 255]), 255*Math.abs(v)/most], 4*i));
  canvas.getContext('2d').putImageData(image, 0, 0);
  return canvas;
}

function reset() {
  Object.assign(view, {zoom: 1, x: 0, y: 0, width: 255, level: 127.5});
  redraw();
}

function zoom(factor, x = 0, y = 0) { // around a point, CSS pixels off the middle of the box
  const before = view.zoom;
  view.zoom = Math.max(1, Math.min(40, before*factor));
  view.x = x - (x - view.x)*view.zoom/before;
  view.y = y - (y - view.y)*view.zoom/before;
  redraw();
}

function drag(dx, dy, windowing) { // to the right: more grey levels; upwards: brighter
  if (windowing) {
    view.width = Math.max(2, Math.min(510, view.width + dx));
    view.level = Math.max(0, Math.min(255, view.level + dy/2));
  } else {
    view.x += dx;
    view.y += dy;
  }
  redraw();
}

function toggle(name) {
  state[name] = !state[name];
  redraw();
}

const fingers = new Map(); // or the mouse: where each of them was last
function moved(e) {
  const was = fingers.get(e.pointerId);
  if (!was) return;
  const dx = e.clientX - was.x, dy = e.clientY - was.y;
  const other = [...fingers].find(([id]) => id !== e.pointerId)?.[1];
  if (other) { // two fingers
    const apart = (a, b) => Math.hypot(a.x - b.x, a.y - b.y) || 1, box = $('view').getBoundingClientRect();
    const now = {x: e.clientX, y: e.clientY};
    drag(dx/2, dy/2, false);
    zoom(apart(now, other)/apart(was, other), (now.x + other.x)/2 - box.x - box.width/2, (now.y + other.y)/2 - box.y - box.height/2);
  } else drag(dx, dy, was.windowing);
  Object.assign(was, {x: e.clientX, y: e.clientY});
}

function wheel(e) {
  if (view.zoom === 1 && e.deltaY > 0) return; // let the page scroll
  e.preventDefault();
  const box = $('view').getBoundingClientRect();
  zoom(Math.exp(-e.deltaY/400), e.clientX - box.x - box.width/2, e.clientY - box.y - box.height/2);
}

const viewKeys = {
  m: () => toggle('map'), i: () => toggle('inverted'), w: () => toggle('windowing'), 0: reset,
  '+': () => zoom(1.25), '=': () => zoom(1.25), '-': () => zoom(.8),
};
const arrows = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};

function viewKey(e) { // true where the key was one of the viewer's
  const press = viewKeys[e.key.toLowerCase()];
  if (press) press();
  else if (e.shiftKey && arrows[e.key]) drag(...arrows[e.key].map(step => 20*step), state.windowing);
  else return false;
  return true;
}

function connectViewer() {
  const box = $('view');
  box.addEventListener('pointerdown', e => {
    box.setPointerCapture(e.pointerId);
    fingers.set(e.pointerId, {x: e.clientX, y: e.clientY, windowing: state.windowing !== (e.button === 2 || e.shiftKey)});
  });
  box.addEventListener('pointermove', moved);
  for (const end of ['pointerup', 'pointercancel']) box.addEventListener(end, e => fingers.delete(e.pointerId));
  box.addEventListener('wheel', wheel, {passive: false});
  box.addEventListener('contextmenu', e => e.preventDefault());
  box.addEventListener('dblclick', reset);
  const clicks = {'map-key': viewKeys.m, invert: viewKeys.i, windowing: viewKeys.w, closer: viewKeys['+'], farther: viewKeys['-'], reset};
  for (const [id, press] of Object.entries(clicks)) $(id).addEventListener('click', press);
  $('strength').addEventListener('input', e => { state.strength = e.target.value/100; redraw(); });
  new ResizeObserver(redraw).observe(box);
}
