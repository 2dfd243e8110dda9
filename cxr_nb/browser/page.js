// The page: hand each X-ray to the worker, show what it answers, keep the list.

delete globalThis.RTCPeerConnection; // no browser's policy shuts this door yet; for its other names see page.html

const words = JSON.parse($('words').textContent);
const entries = []; // {number, file, row, ms, and why, or a warning, oodScore, logits, probability and map}
let shown = null, ready = false, threshold = words.threshold;
let sorting = {by: 'number', down: false};

const percent = v => `${(100*v).toFixed(v > 0 && v < 1 ? 1 : 0)}%`;
const short = v => v.toFixed(3);
const callOf = f => f.why ? 'rejected' : f.probability >= threshold ? 'positive' : 'negative';
const ODD = 'does not look like the X-rays it was trained on (turned, inverted, a half, a pair, or not a chest X-ray)';

function classOf(f) { // the likeliest of the call's side
  const call = callOf(f);
  if (call === 'rejected') return '';
  const side = words.vocab.map((name, i) => [name, f.logits[i]]).filter(([name]) => words.positive.includes(name) === (call === 'positive'));
  return side.reduce((a, b) => b[1] > a[1] ? b : a)[0];
}

function tell(sentence, trouble = false) {
  $('status').textContent = sentence;
  $('status').classList.toggle('trouble', trouble);
}

// The worker

class Unfit extends Error {} // a sentence for the reader of the page
const waiting = new Map(); // what the worker was asked, by number
let worker, asked = 0;

function request(what, parts) {
  return new Promise((resolve, reject) => {
    waiting.set(++asked, {resolve, reject});
    worker.postMessage({id: asked, what, ...parts});
  });
}

async function start() {
  worker = new Worker(URL.createObjectURL(new Blob([globalThis.workerCode], {type: 'text/javascript'})));
  worker.onmessage = ({data: {id, answer, error, unfit}}) => {
    const {resolve, reject} = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(answer);
    else reject(unfit ? new Unfit(error) : new Error(error));
  };
  worker.onerror = e => {
    for (const {reject} of waiting.values()) reject(new Error(e.message || 'the worker stopped'));
    waiting.clear();
  };
  const [runtime, model] = ['runtime', 'model'].map(id => $(id).textContent);
  for (const id of ['runtime', 'model']) $(id).remove(); // gives its memory back
  await request('start', {runtime, model, size: words.size});
}

async function answer(file) {
  const started = performance.now(), f = {number: entries.length, file};
  try {
    Object.assign(f, await request('ask', {file, key: f.number}));
    if (words.ood_limit !== null && f.oodScore > words.ood_limit) f.why = ODD;
  } catch (e) {
    f.why = e instanceof Unfit ? e.message : `cannot be read (${e.message}); copy it again, or save it as JPEG or PNG`;
  }
  f.ms = performance.now() - started;
  return f;
}

let queue; // a handful waits for the one before, and the first for the network
function take(list) {
  const chosen = [...list];
  queue = queue.then(async () => {
    if (!ready) return;
    for (const [i, file] of chosen.entries()) {
      tell(`Reading X-ray ${i + 1} of ${chosen.length}.`);
      const f = await answer(file);
      entries.push(f);
      addRow(f); sortRows(); count();
      if (i === 0) await show(f);
    }
    tell(chosen.length === 1 ? `Done: ${chosen[0].name}, ${callOf(entries.at(-1))}.` : `Done: ${chosen.length} X-rays.`);
  });
}

// The operating point

function showPoint() {
  const own = threshold !== words.threshold, {valid, test} = words.measured, table = words.by_threshold;
  $('threshold-shown').textContent = short(threshold);
  $('back').hidden = !own;
  $('point').textContent = `${own ? 'Your own threshold. ' : ''}The operating point of this classifier: ${words.note}.`;
  const i = Math.round(1000*threshold);
  const at = table && (own ? [table.sensitivity[i], table.specificity[i]] : [valid.sensitivity[0], valid.specificity[0]]);
  $('valid').textContent = table
    ? `On ${valid.images} validation X-rays: sensitivity ${percent(at[0])}, specificity ${percent(at[1])}. Rejected X-rays count as errors.`
    : 'No predictions came with this page, so it cannot say what a threshold is worth.';
  const rate = ([v, low, high]) => `${percent(v)} (95% interval ${percent(low)} to ${percent(high)})`;
  $('test').textContent = !test ? '' : own ? 'What your threshold is worth on the test was not measured.'
    : `On ${test.images} test X-rays of ${test.patients} patients: sensitivity ${rate(test.sensitivity)}, specificity ${rate(test.specificity)}. On other X-rays, likely worse.`;
  if (table) Object.assign($('valid').dataset, {sensitivity: at[0], specificity: at[1]});
}

function setThreshold(v) {
  threshold = v;
  showPoint(); showAnswer(); entries.forEach(fillRow); count();
}

// One X-ray

function showAnswer() {
  if (!shown) return;
  const f = shown, call = callOf(f);
  $('answer').hidden = false;
  $('name').textContent = f.file.name;
  Object.assign($('answer').dataset, {call, probability: f.why ? '' : f.probability});
  $('input-check').className = f.why ? 'rejected' : '';
  $('input-check').textContent = f.why ? `Rejected: it ${f.why}.`
    : words.ood_limit === null ? 'Not checked: this classifier has no input check and answers for anything.' : 'Yes, so it is classified.';
  $('judged').hidden = Boolean(f.why);
  $('xray').setAttribute('aria-label', `The X-ray ${f.file.name}`);
  if (f.why) return;
  $('call').className = call;
  $('call').textContent = `${call === 'positive' ? 'Positive' : 'Negative'}: ${classOf(f)}`;
  $('because').textContent = `Positive from a probability of ${short(threshold)} up (shaded).`;
  $('warning').textContent = f.warning ? `It ${f.warning}.` : '';
  $('warning').hidden = !f.warning;
  $('probability').textContent = `probability ${short(f.probability)}`;
  $('scale').setAttribute('aria-label', `Probability ${short(f.probability)}; positive from ${short(threshold)} up`);
  $('mark').style.left = `${100*f.probability}%`;
  $('from').style.left = `${100*threshold}%`;
  const most = f.map.values.reduce((a, v) => Math.abs(v) > Math.abs(a) ? v : a, 0);
  $('strongest').textContent = `What speaks for ${words.positive_name} and what against; the strongest cell moves the log-odds by ${most > 0 ? '+' : '−'}${Math.abs(most).toFixed(2)}. It shows where the network looked, not where the lesion is.`;
}

async function show(f) {
  shown = f;
  showAnswer();
  for (const other of entries) other.row.toggleAttribute('aria-current', other === f);
  f.row.scrollIntoView({block: 'nearest'});
  $('place').textContent = `${inOrder().indexOf(f) + 1} of ${entries.length}`;
  const drawn = await request('draw', {file: f.file, key: f.number}).catch(() => null); // null: it cannot be read
  if (shown === f) showPicture(drawn, f.why ? null : f.map);
}

function step(by) { // to the next of the list as it is sorted
  const next = inOrder()[inOrder().indexOf(shown) + by];
  if (next) show(next);
}

// The list

const sortBy = {number: f => f.number, name: f => f.file.name.toLowerCase(), call: f => ['positive', 'rejected', 'negative'].indexOf(callOf(f)),
  probability: f => f.why ? -1 : f.probability};

function inOrder() {
  const value = sortBy[sorting.by], sign = sorting.down ? -1 : 1;
  const compare = (a, b) => value(a) < value(b) ? -sign : value(a) > value(b) ? sign : a.number - b.number;
  return entries.toSorted(compare);
}

function sortRows() {
  $('rows').append(...inOrder().map(f => f.row));
  for (const button of document.querySelectorAll('[data-sort]')) {
    const by = button.dataset.sort === sorting.by;
    button.closest('th').setAttribute('aria-sort', !by ? 'none' : sorting.down ? 'descending' : 'ascending');
  }
  $('first').checked = sorting.by === 'probability' && sorting.down;
  if (shown) $('place').textContent = `${inOrder().indexOf(shown) + 1} of ${entries.length}`;
}

function sort(by, down) {
  sorting = {by, down};
  sortRows();
}

function fillRow(f) {
  const call = callOf(f), [name, word, number] = f.row.cells;
  f.row.dataset.call = word.className = word.textContent = call;
  number.textContent = f.why ? '' : short(f.probability);
  name.querySelector('.why').textContent = f.why || f.warning || '';
}

function addRow(f) {
  f.row = $('rows').insertRow();
  const open = document.createElement('button'), why = document.createElement('div');
  open.type = 'button';
  open.textContent = f.file.name; // text, whatever a name looks like
  open.addEventListener('click', () => show(f).then(() => $('answer').scrollIntoView({block: 'nearest'})));
  why.className = 'why';
  f.row.insertCell().append(open, why);
  for (let i = 0; i < 2; i++) f.row.insertCell();
  Object.assign(f.row.dataset, {ms: f.ms.toFixed(1), probability: f.why ? '' : f.probability});
  fillRow(f);
}

function count() {
  const n = {positive: 0, negative: 0, rejected: 0};
  for (const f of entries) n[callOf(f)]++;
  $('counts').textContent = `${n.positive} positive, ${n.negative} negative, ${n.rejected} rejected.`;
  $('many').hidden = entries.length < 2;
  $('desk').classList.toggle('several', entries.length > 1);
}

function csvCell(v) { // a spreadsheet would run a name that begins like a formula
  const disarmed = String(v).replace(/^[=+\-@\t\r]/, "'$&");
  return `"${disarmed.replaceAll('"', '""')}"`;
}

function saveCsv() {
  const lines = inOrder().map(f => [f.file.name, f.why ? '' : f.probability, callOf(f), classOf(f), f.why || f.warning || '', threshold]);
  const table = [['file', 'probability', 'call', 'class', 'why', 'threshold'], ...lines];
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([table.map(line => line.map(csvCell).join(',') + '\n').join('')], {type: 'text/csv'}));
  link.download = 'answers.csv';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// Keys, clicks, and what this page is

const keys = {j: 1, ArrowRight: 1, k: -1, ArrowLeft: -1};
const listKeys = {ArrowDown: 1, ArrowUp: -1}; // elsewhere they scroll

function press(e) {
  if (!shown || e.ctrlKey || e.metaKey || e.altKey || e.target.matches('input[type=range]')) return;
  const by = e.shiftKey ? undefined : keys[e.key] ?? (e.target.closest('#many, #view') ? listKeys[e.key] : undefined);
  if (by) step(by);
  else if (!viewKey(e)) return;
  e.preventDefault();
}

function connect() {
  connectViewer();
  $('choose').addEventListener('change', e => { take(e.target.files); e.target.value = ''; });
  addEventListener('dragover', e => { e.preventDefault(); $('drop').classList.add('over'); });
  addEventListener('dragleave', () => $('drop').classList.remove('over'));
  addEventListener('drop', e => { e.preventDefault(); $('drop').classList.remove('over'); take(e.dataTransfer.files); });
  addEventListener('keydown', press);
  $('previous').addEventListener('click', () => step(-1));
  $('next').addEventListener('click', () => step(1));
  for (const button of document.querySelectorAll('[data-sort]')) {
    const by = button.dataset.sort, highFirst = by === 'probability'; // a second click turns it round
    button.addEventListener('click', () => sort(by, sorting.by === by ? !sorting.down : highFirst));
  }
  $('first').addEventListener('change', e => e.target.checked ? sort('probability', true) : sort('number', false));
  $('threshold').addEventListener('input', e => setThreshold(e.target.value/1000));
  $('back').addEventListener('click', () => { $('threshold').value = 1000*words.threshold; setThreshold(words.threshold); });
  $('csv').addEventListener('click', saveCsv);
}

function introduce() {
  const a = words.about, facts = {Classes: words.vocab.join(', '), 'Positive class': words.positive_name,
    'Trained on': `${a.data}${a.images ? `, ${a.images} X-rays` : ''}`, Finished: a.finished, Run: a.run, Networks: words.networks,
    'Size that it sees': `${words.size} by ${words.size} pixels`, Preprocessing: words.preprocessing, Temperature: short(words.temperature)};
  for (const [k, v] of Object.entries(facts)) {
    const dt = document.createElement('dt'), dd = document.createElement('dd');
    dt.textContent = k; dd.textContent = v;
    $('about').append(dt, dd);
  }
  $('threshold').value = 1000*words.threshold;
  showPoint();
}

function open() {
  ready = true;
  $('status').dataset.ms = performance.now().toFixed(0);
  tell('Ready for X-rays.');
}

function fail(e) {
  tell(e instanceof Unfit ? e.message : `The network could not be started (${e.message}); open the page in a current browser.`, true);
}

introduce();
queue = start().then(open, fail);
connect();
