// The page: unpack the network, ask it about each film, show what it says.

for (const way of ['RTCPeerConnection', 'webkitRTCPeerConnection']) delete globalThis[way]; // no browser's policy shuts this door yet

const $ = id => document.getElementById(id), words = JSON.parse($('words').textContent), title = document.querySelector('h1').textContent;
const films = []; // {file, row, ms, and why, or a warning, strangeness, probability and map}
let session, shown, strength = .5, threshold = words.threshold;

const percent = v => `${(100*v).toFixed(v > 0 && v < 1 ? 1 : 0)} %`;
const short = v => v.toFixed(3);
const isStrange = f => words.guard_limit !== null && f.strangeness > words.guard_limit;
const callOf = f => f.why ? 'refused' : f.probability >= threshold ? 'positive' : 'negative';
const STRANGE = 'does not look like the films it was trained on (turned, inverted, cropped, or no chest film)';

function tell(sentence, trouble = false) {
  $('status').textContent = sentence;
  $('status').classList.toggle('trouble', trouble);
}

async function unpack(id) { // base64 of a gzipped file; taken out of the page to give its memory back
  const packed = $(id).textContent;
  $(id).remove();
  let bytes;
  if (Uint8Array.fromBase64) bytes = Uint8Array.fromBase64(packed);
  else bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}

async function start() {
  await new Promise(requestAnimationFrame); // let the page be seen first
  if (typeof WebAssembly === 'undefined') throw new Unfit('This browser has no WebAssembly, or it is switched off; open the page in a current one.');
  if (typeof DecompressionStream === 'undefined' || typeof OffscreenCanvas === 'undefined')
    throw new Unfit('This browser is too old for this page; open it in a current one.');
  const {InferenceSession, env} = globalThis.ort;
  Object.assign(env.wasm, {numThreads: 1, proxy: false, wasmBinary: await unpack('runtime')});
  session = await InferenceSession.create(new Uint8Array(await unpack('model')), {executionProviders: ['wasm']});
}

async function ask(square) {
  const n = words.size, said = await session.run({films: new globalThis.ort.Tensor('uint8', square, [1, n, n])});
  const [, rows, columns] = said.map.dims;
  return {probability: said.probability.data[0], strangeness: said.strangeness.data[0], map: {rows, columns, values: said.map.data}};
}

// What is said about the operating point

function showPoint() {
  const own = threshold !== words.threshold, {valid, test} = words.measured, table = words.by_threshold;
  $('threshold-shown').textContent = short(threshold);
  $('back').hidden = !own;
  $('point').textContent = own ? `Your own threshold. The operating point of this classifier: ${words.story}.` : `The operating point of this classifier: ${words.story}.`;
  const i = Math.round(1000*threshold), at = table && (own ? [table.sensitivity[i], table.specificity[i]] : [valid.sensitivity[0], valid.specificity[0]]);
  $('valid').textContent = table
    ? `On the ${valid.films} films of validation: sensitivity ${percent(at[0])}, specificity ${percent(at[1])}. A refused film counts as wrong.`
    : 'No predictions came with this page, so it cannot say what a threshold is worth.';
  const rate = ([v, low, high]) => `${percent(v)} (95 % interval ${percent(low)} to ${percent(high)})`;
  $('test').textContent = !test ? '' : own ? 'What your threshold is worth on the test was not measured.'
    : `On ${test.films} test films of ${test.patients} patients: sensitivity ${rate(test.sensitivity)}, specificity ${rate(test.specificity)}. On other films, likely worse.`;
  if (table) Object.assign($('valid').dataset, {sensitivity: at[0], specificity: at[1]});
}

// One film

const colour = v => v > 0 ? [255, 120, 0] : [40, 130, 255];

function draw(film, map) {
  const canvas = $('film'), scale = Math.min(1, 900/Math.max(film.width, film.height));
  const picture = new ImageData(film.width, film.height);
  film.pixels.forEach((v, i) => { const j = 4*i; picture.data[j] = picture.data[j + 1] = picture.data[j + 2] = v; picture.data[j + 3] = 255; });
  canvas.width = Math.round(film.width*scale); canvas.height = Math.round(film.height*scale);
  const pen = canvas.getContext('2d'), layer = new OffscreenCanvas(film.width, film.height);
  layer.getContext('2d').putImageData(picture, 0, 0);
  pen.imageSmoothingQuality = 'high';
  pen.drawImage(layer, 0, 0, canvas.width, canvas.height);
  if (!map || !strength) return;
  const {rows, columns, values} = map, most = Math.max(...values.map(Math.abs)) || 1, tiles = new OffscreenCanvas(columns, rows);
  const paint = new ImageData(columns, rows);
  values.forEach((v, i) => paint.data.set([...colour(v), 255*Math.abs(v)/most], 4*i));
  tiles.getContext('2d').putImageData(paint, 0, 0);
  pen.globalAlpha = strength;
  pen.drawImage(tiles, 0, 0, canvas.width, canvas.height); // smoothed in between
  pen.globalAlpha = 1;
}

function showAnswer() {
  if (!shown) return;
  const {entry: f, film} = shown, call = callOf(f);
  $('answer').hidden = false;
  $('name').textContent = f.file.name;
  Object.assign($('answer').dataset, {call, probability: f.why ? '' : f.probability});
  $('guard').className = f.why ? 'refused' : '';
  $('guard').textContent = f.why ? `Refused: it ${f.why}.` : words.guard_limit === null ? 'Nobody looked: this classifier has no guard and answers for anything.' : 'Yes, so it is judged.';
  $('judged').hidden = $('legend').hidden = Boolean(f.why);
  $('film').hidden = !film;
  if (!f.why) {
    $('call').className = call;
    $('call').textContent = `${call === 'positive' ? 'Positive: called' : 'Negative: not called'} ${words.positive}`;
    $('because').textContent = `It is called from a probability of ${short(threshold)} up (shaded).`;
    $('warning').textContent = f.warning ? `It ${f.warning}.` : '';
    $('warning').hidden = !f.warning;
    $('probability').textContent = `probability ${short(f.probability)}`;
    $('scale').setAttribute('aria-label', `Probability ${short(f.probability)}; called positive from ${short(threshold)} up`);
    $('mark').style.left = `${100*f.probability}%`;
    $('from').style.left = `${100*threshold}%`;
    const most = f.map.values.reduce((a, v) => Math.abs(v) > Math.abs(a) ? v : a, 0);
    $('told').textContent = `What speaks for ${words.positive} and what against; the strongest place moves the log-odds by ${most > 0 ? '+' : '−'}${Math.abs(most).toFixed(2)}. It tells where the network looked, not where the lesion is.`;
  }
  $('film').setAttribute('aria-label', `The film ${f.file.name}${f.why ? '' : ', with the map over it'}`);
  if (film) draw(film, f.why ? null : f.map);
}

async function show(entry) {
  const film = entry.film ?? await readFilm(entry.file).catch(() => null);
  shown = {entry, film};
  showAnswer();
}

// Many films

function fillRow(f) {
  const call = callOf(f), [, word, number, why] = f.row.cells;
  f.row.dataset.call = call;
  word.textContent = call; word.className = call;
  number.textContent = f.why ? '' : short(f.probability);
  why.textContent = f.why || f.warning || '';
}

function addRow(f) {
  f.row = $('rows').insertRow();
  const open = document.createElement('button');
  open.type = 'button';
  open.textContent = f.file.name; // text, whatever a name looks like
  open.addEventListener('click', () => show(f).then(() => $('answer').scrollIntoView()));
  f.row.insertCell().append(open);
  for (let i = 0; i < 3; i++) f.row.insertCell();
  Object.assign(f.row.dataset, {ms: f.ms.toFixed(1), probability: f.why ? '' : f.probability});
  fillRow(f);
}

function count() {
  const n = {positive: 0, negative: 0, refused: 0};
  for (const f of films) n[callOf(f)]++;
  $('counts').textContent = `${n.positive} positive, ${n.negative} negative, ${n.refused} refused.`;
  $('many').hidden = films.length < 2;
}

async function answer(file) {
  const begun = performance.now(), f = {file};
  try {
    f.film = await readFilm(file);
    f.warning = f.film.warning;
    Object.assign(f, await ask(squeeze(f.film, words.size)));
    if (isStrange(f)) f.why = STRANGE;
  } catch (e) {
    f.why = e instanceof Unfit ? e.message : `cannot be read (${e.message}); copy it again, or save it as JPEG or PNG`;
  }
  f.ms = performance.now() - begun;
  return f;
}

let queue; // a handful waits for the one before, and the first for the network
function take(list) {
  const chosen = [...list];
  queue = queue.then(async () => {
    if (!session) return;
    for (const [i, file] of chosen.entries()) {
      tell(`Reading film ${i + 1} of ${chosen.length}.`);
      const f = await answer(file);
      films.push(f); addRow(f); count();
      if (i === 0) await show(f);
      delete f.film; // it is read again when its row is clicked
      await new Promise(next => setTimeout(next)); // let the page breathe
    }
    tell(chosen.length === 1 ? `Done: ${chosen[0].name}, ${callOf(films.at(-1))}.` : `Done: ${chosen.length} films.`);
  });
}

function saveCsv() {
  const cell = v => `"${String(v).replaceAll('"', '""')}"`;
  const lines = films.map(f => [f.file.name, f.why ? '' : f.probability, callOf(f), f.why || f.warning || '', threshold].map(cell).join(','));
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([['file,probability,call,why,threshold', ...lines].join('\n') + '\n'], {type: 'text/csv'}));
  link.download = 'answers.csv';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function setThreshold(v) {
  threshold = v;
  showPoint(); showAnswer(); films.forEach(fillRow); count();
}

function connect() {
  $('choose').addEventListener('change', e => { take(e.target.files); e.target.value = ''; });
  addEventListener('dragover', e => { e.preventDefault(); $('drop').classList.add('over'); });
  addEventListener('dragleave', () => $('drop').classList.remove('over'));
  addEventListener('drop', e => { e.preventDefault(); $('drop').classList.remove('over'); take(e.dataTransfer.files); });
  $('strength').addEventListener('input', e => { strength = e.target.value/100; showAnswer(); });
  $('threshold').addEventListener('input', e => setThreshold(e.target.value/1000));
  $('back').addEventListener('click', () => { $('threshold').value = 1000*words.threshold; setThreshold(words.threshold); });
  $('csv').addEventListener('click', saveCsv);
}

function introduce() {
  const a = words.about, facts = {Classes: words.vocab.join(', '), 'Looked for': words.positive, 'Trained on': `${a.data}${a.train_films ? `, ${a.train_films} films` : ''}`,
    Finished: a.finished, Run: a.run, Networks: words.members, 'Size that it sees': `${words.size} by ${words.size} pixels`, 'Films are read': words.geometry,
    Temperature: short(words.temperature)};
  for (const [k, v] of Object.entries(facts)) {
    const dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = k; dd.textContent = v;
    $('about').append(dt, dd);
  }
  $('threshold').value = 1000*words.threshold;
  showPoint();
}

function ready() {
  $('status').dataset.ms = performance.now().toFixed(0);
  tell('Ready for films.');
  document.title = title;
}

function fail(e) {
  tell(e instanceof Unfit ? e.message : `The network could not be started (${e.message}); open the page in a current browser.`, true);
  document.title = `${title}: cannot start`;
}

introduce();
queue = start().then(ready, fail);
connect();
