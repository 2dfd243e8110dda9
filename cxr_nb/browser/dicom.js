// A DICOM file as a grey image: what `cxr_nb.film` does with one, in the same order and the same sentences.
// Only the tags named here are read.

const TAGS = {
  CodeMeaning: 0x00080104, StudyDate: 0x00080020, Modality: 0x00080060, ViewCodeSequence: 0x00540220,
  PresentationIntentType: 0x00080068, SeriesDescription: 0x0008103e, ProtocolName: 0x00181030,
  AcquisitionDeviceProcessingDescription: 0x00181400, PresentationLUTShape: 0x20500020,
  PatientBirthDate: 0x00100030, PatientAge: 0x00101010, BodyPartExamined: 0x00180015, ViewPosition: 0x00185101,
  PatientOrientation: 0x00200020, TransferSyntaxUID: 0x00020010, SamplesPerPixel: 0x00280002,
  PhotometricInterpretation: 0x00280004, NumberOfFrames: 0x00280008, Rows: 0x00280010, Columns: 0x00280011,
  BitsAllocated: 0x00280100, BitsStored: 0x00280101, HighBit: 0x00280102, PixelRepresentation: 0x00280103,
  PixelPaddingValue: 0x00280120, PixelPaddingRangeLimit: 0x00280121, BurnedInAnnotation: 0x00280301,
  WindowCenter: 0x00281050, WindowWidth: 0x00281051, RescaleIntercept: 0x00281052, RescaleSlope: 0x00281053,
  VOILUTFunction: 0x00281056, ModalityLUTSequence: 0x00283000, LUTDescriptor: 0x00283002, LUTData: 0x00283006,
  VOILUTSequence: 0x00283010, PixelData: 0x7fe00010,
};
const NAMES = new Map(Object.entries(TAGS).map(([name, tag]) => [tag, name]));
const LONG = 'OB OD OF OL OV OW SQ SV UC UN UR UT UV'.split(' '); // kinds of value whose length has four bytes
const KINDS = [...LONG, ...'AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US'.split(' ')];
const ITEM = 0xfffee000, END_OF_ITEM = 0xfffee00d, END_OF_SEQUENCE = 0xfffee0dd, UNDEFINED = 0xffffffff;

const IMPLICIT = '1.2.840.10008.1.2', EXPLICIT = '1.2.840.10008.1.2.1', BASELINE = '1.2.840.10008.1.2.4.50';
const UNREAD = { // pydicom's names
  '1.2.840.10008.1.2.1.99': 'Deflated Explicit VR Little Endian',
  '1.2.840.10008.1.2.2': 'Explicit VR Big Endian',
  '1.2.840.10008.1.2.4.51': 'JPEG Extended (Process 2 and 4)',
  '1.2.840.10008.1.2.4.57': 'JPEG Lossless, Non-Hierarchical (Process 14)',
  '1.2.840.10008.1.2.4.70': 'JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])',
  '1.2.840.10008.1.2.4.80': 'JPEG-LS Lossless Image Compression',
  '1.2.840.10008.1.2.4.81': 'JPEG-LS Lossy (Near-Lossless) Image Compression',
  '1.2.840.10008.1.2.4.90': 'JPEG 2000 Image Compression (Lossless Only)',
  '1.2.840.10008.1.2.4.91': 'JPEG 2000 Image Compression',
  '1.2.840.10008.1.2.5': 'RLE Lossless',
};

class Reader { // of the bytes of a file; a value beyond their end is a RangeError
  constructor(bytes) { this.bytes = bytes; this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length); }
  tag(at) { return this.view.getUint16(at, true)*65536 + this.view.getUint16(at + 2, true); }
  size(at) { return this.view.getUint32(at, true); }

  tags(into, at, end, nested = false, implicit = false, group = null) {
    // those of TAGS, by name; gives where the next one starts
    if (!(nested && implicit)) implicit = !/^[A-Z]{2}$/.test(text(this.bytes, at + 4, at + 6)); // whatever was declared
    while (at < end && at + 8 <= this.bytes.length) {
      const tag = this.tag(at), name = NAMES.get(tag), said = text(this.bytes, at + 4, at + 6);
      const plain = implicit || said < 'AA' || said > 'ZZ', kind = plain ? '' : said;
      if (group !== null && tag >>> 16 !== group) return at;
      const long = LONG.includes(kind);
      const n = long ? this.size(at + 8) : plain ? this.size(at + 4) : this.view.getUint16(at + 6, true);
      at += long ? 12 : 8;
      if (tag === END_OF_ITEM) return at;
      if (name && kind && !KINDS.includes(kind)) throw new RangeError('no such kind');
      const start = at, list = name?.endsWith('Sequence');
      if (n !== UNDEFINED && !list) at += n;
      const items = n !== UNDEFINED && !list ? null : [];
      if (items) at = this.items(items, at, n === UNDEFINED ? Infinity : at + n, implicit, list);
      if (name) into[name] = {kind, items, bytes: this.bytes.subarray(start, at)};
    }
    return at;
  }

  items(into, at, end, implicit, list) { // of a sequence, or the fragments of a compressed picture
    while (at < end) {
      const tag = this.tag(at), n = this.size(at + 4), set = {};
      at += 8;
      if (tag === END_OF_SEQUENCE) return at;
      if (tag !== ITEM) throw new RangeError('no item');
      into.push(list ? set : this.bytes.subarray(at, at + n));
      const open = n === UNDEFINED, next = at + n;
      if (list || open) at = this.tags(set, at, open ? Infinity : next, true, implicit);
      if (!open) at = next;
    }
    return at;
  }
}

function headerOf(bytes) {
  const reader = new Reader(bytes), meta = {}, ds = {};
  try {
    const start = text(bytes, 128, 132) === 'DICM' ? 132 : 0;
    const at = reader.tags(meta, start, Infinity, false, false, 2), syntax = textOf(meta, 'TransferSyntaxUID');
    if (['1.2.840.10008.1.2.1.99', '1.2.840.10008.1.2.2'].includes(syntax)) refuseSyntax(syntax); // so is the header
    reader.tags(ds, at, Infinity);
  } catch (e) { if (!(e instanceof RangeError)) throw e; } // cut short: what was read so far counts
  if (meta.TransferSyntaxUID) ds.TransferSyntaxUID = meta.TransferSyntaxUID;
  return ds;
}

const textOf = (ds, name) => Array.from(ds[name]?.bytes ?? [], c => String.fromCharCode(c)).join('')
  .replace(/[ \0]+$/, '');
function wordOf(ds, name) { // may be shown; with a damaged length, the next tag stands in it, perhaps a person's name
  const word = textOf(ds, name).toUpperCase();
  if (/[\0-\x1a\x1c-\x1f]/.test(word)) throw new RangeError('no word');
  return word.replace(/[^A-Z0-9 _-]/g, '?').trim();
}
function numberOf(ds, name, i = 0, signed = false) {
  const {buffer, byteOffset, length} = ds[name].bytes, view = new DataView(buffer, byteOffset, length);
  return signed ? view.getInt16(2*i, true) : view.getUint16(2*i, true);
}

// An optional element; empty, unreadable or senseless, it counts as absent
function optional(ds, name, read, otherwise, ignored) {
  if (!ds[name]) return otherwise;
  try { return read(ds, name); } catch {
    ignored.push(name);
    delete ds[name];
    return otherwise;
  }
}
function decimals(ds, name) { // NaN for what is no number, or beyond all measure
  return textOf(ds, name).replaceAll(',', '.').split('\\').map(word => {
    const known = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(word.trim());
    return known && Math.abs(Number(word)) < 1e12 ? Number(word) : NaN;
  });
}
function decimal(ds, name) {
  const [first] = decimals(ds, name);
  if (Number.isNaN(first)) throw new RangeError('no number');
  return first;
}
function slopeOf(ds, name) {
  const slope = decimal(ds, name);
  if (Math.abs(slope) < 1e-12) throw new RangeError('no slope');
  return slope;
}
function framesOf(ds, name) {
  const frames = decimal(ds, name);
  if (frames < 0 || frames % 1) throw new RangeError('no count');
  return frames;
}

function refuseSyntax(syntax) {
  const way = UNREAD[syntax] ?? syntax;
  throw new Unfit(`is stored in a way that this page does not read (${way}); `
    + 'export it uncompressed, or ask cxr_predict');
}

const CHEST = /CHEST|THORA|T[^ ]{1,2}RAX|TORA|LUNG|PECHO|BRUST|POITRINE|KLATKA/;
const SIDE = new RegExp('\\b(LL|RL|L?LAT|RLAT|LATERAL|OBLIQUE|LAO|RAO|LPO|RPO|LLO|RLO|LLD|RLD|DECUBITUS'
  + '|PROFIL|PERFIL|SEITLICH)\\b');
const FRONT = /\b(AP|PA|FRONTAL)\b/;

function isSideView(ds, ignored) { // descriptions count where the view itself does not say
  const found = (pattern, texts) => pattern.test(texts.join(' ').toUpperCase().replace(/[^A-Z0-9]/g, ' '));
  if (/^[AP]/.test(textOf(ds, 'PatientOrientation'))) return true;
  const meanings = (set, name) => set[name].items.map(item => textOf(item, 'CodeMeaning'));
  const view = [wordOf(ds, 'ViewPosition'), ...optional(ds, 'ViewCodeSequence', meanings, [], ignored)];
  if (found(SIDE, view)) return true;
  const described = ['SeriesDescription', 'ProtocolName', 'AcquisitionDeviceProcessingDescription'].map(n => textOf(ds, n));
  return found(SIDE, described) && !found(FRONT, [...view, ...described]);
}

function checkHeader(ds, ignored) {
  const modality = wordOf(ds, 'Modality'), part = wordOf(ds, 'BodyPartExamined');
  const colours = wordOf(ds, 'PhotometricInterpretation');
  const object = sentence => { throw new Unfit(`${sentence} (if the header is wrong: cxr_predict --trust-header no)`); };
  if (!['', 'CR', 'DX', 'RG', 'DR', 'XR', 'OT', 'SC'].includes(modality))
    object(`is of the modality ${modality.slice(0, 16)}; take X-rays, CR or DX`);
  if (part && !CHEST.test(part)) object(`shows ${part.slice(0, 16)}; take X-rays of the chest`);
  if (isSideView(ds, ignored)) object('is not a frontal view; take the one that is marked AP or PA');
  if (wordOf(ds, 'PresentationIntentType') === 'FOR PROCESSING')
    object('is a raw detector image (FOR PROCESSING); take the one that is FOR PRESENTATION');
  if (wordOf(ds, 'PresentationLUTShape') === 'INVERSE' && colours === 'MONOCHROME2')
    object('is meant to be shown inverted (PresentationLUTShape INVERSE); export it with air in black');
  const frames = optional(ds, 'NumberOfFrames', framesOf, 1, ignored);
  if (frames > 1) throw new Unfit(`holds ${frames} frames; export the one to judge`);
  if (!ds.PixelData || !colours) throw new Unfit('holds no picture; copy it again if it was cut short, or remove it');
  if (!['MONOCHROME1', 'MONOCHROME2'].includes(colours))
    throw new Unfit(`is in colour (${colours.slice(0, 16)}); export the X-ray itself and not a screenshot`);
  const bits = numberOf(ds, 'BitsStored');
  if (bits > 16) throw new Unfit(`has grey levels of ${bits} bits; export it with at most 16`);
}

async function storedPixels(ds, width, height) { // the numbers in the pixels
  const syntax = textOf(ds, 'TransferSyntaxUID'), single = numberOf(ds, 'SamplesPerPixel') === 1;
  const allocated = numberOf(ds, 'BitsAllocated'), stored = numberOf(ds, 'BitsStored');
  if (syntax === BASELINE) {
    try {
      const whole = new Blob(ds.PixelData.items.slice(1)); // the first item is a table
      const film = await decodeJpeg(new Uint8Array(await whole.arrayBuffer()));
      const fits = film.width === width && film.height === height;
      if (fits && single && film.channels === 1 && allocated === 8) return film.pixels;
    } catch {}
    throw new Unfit('is compressed and could not be decoded (JPEG Baseline (Process 1)); '
      + 'copy it again, or export it uncompressed');
  }
  const step = allocated/8, {bytes, items} = ds.PixelData, n = width*height;
  if (!syntax && items) throw new Unfit('does not say how its pixels are compressed; export it uncompressed');
  const uncompressed = ['', IMPLICIT, EXPLICIT].includes(syntax);
  if (!uncompressed && /^1\.2\.840\.10008\.1\.2\.[\d.]+$/.test(syntax)) refuseSyntax(syntax);
  if (/^(0|[1-9]\d*)(\.(0|[1-9]\d*))*$/.test(syntax) && !syntax.startsWith('1.2.840.10008.')) refuseSyntax('a private transfer syntax');
  const plain = uncompressed && !items;
  const known = single && [1, 2, 4, 8].includes(step) && stored >= 1 && stored <= allocated
    && numberOf(ds, 'PixelRepresentation') <= 1;
  if (!plain || !known || bytes.length < n*step || bytes.length >= 2*n*step) throw new RangeError('no such pixels');
  const numbers = new Uint32Array(n);
  for (let i = 0; i < n; i++) for (let k = Math.min(step, 4) - 1; k >= 0; k--) numbers[i] = numbers[i]*256 + bytes[i*step + k];
  return numbers;
}

function tableOf(ds, name) { // how to look a number up, and the highest entry
  const item = ds[name].items[0], {kind, bytes} = item.LUTDescriptor, n = numberOf(item, 'LUTDescriptor') || 2**16;
  const signed = kind === 'SS' || !kind && numberOf(ds, 'PixelRepresentation') === 1;
  const first = numberOf(item, 'LUTDescriptor', 1, signed);
  const entries = Array.from({length: n}, (_, i) => numberOf(item, 'LUTData', i));
  const ends = [Math.min, Math.max].map(end => entries.reduce((a, b) => end(a, b)));
  if (bytes.length !== 6 || item.LUTData.bytes.length % 2 || ends[0] === ends[1]) throw new RangeError('no table');
  const rint = v => { const r = Math.round(v); return r - v === .5 && r % 2 ? r - 1 : r; }; // halves to even, as NumPy
  return {high: ends[1], look: v => entries[Math.max(0, Math.min(rint(v) - first, n - 1))]};
}

function modalityOf(ds, stored, counts, ignored) { // values of the machine, the ends of their scale, and their step
  const table = optional(ds, 'ModalityLUTSequence', tableOf, null, ignored);
  if (table) return {values: stored.map(table.look), ends: [0, table.high], step: 1};
  const slope = optional(ds, 'RescaleSlope', slopeOf, 1, ignored);
  const intercept = optional(ds, 'RescaleIntercept', decimal, 0, ignored);
  const values = stored.map(v => v*slope + intercept), step = Math.abs(slope);
  const all = [stored.reduce((a, v) => Math.min(a, v)), stored.reduce((a, v) => Math.max(a, v))];
  const within = depth(...extent(stored, counts)).map(v => Math.min(Math.max(v, all[0]), all[1])*slope + intercept);
  let ends = within.sort((a, b) => a - b);
  const [low, high] = extent(values.map(v => v/step), counts);
  if (low >= 0 && high < 2**16) { // without an offset
    const plain = depth(low, high).map(v => v*step);
    if (plain[1] - plain[0] < ends[1] - ends[0]) ends = plain;
  }
  return {values, ends, step};
}

function windowed(center, width, kind, step) { // NaN without any width
  if (kind === 'LINEAR' && !(step < 1 && width < 255)) { center -= .5; width -= 1; }
  if (width <= 0) return () => NaN;
  if (kind === 'SIGMOID') return v => 1/(1 + Math.exp(-4*(v - center)/width));
  return v => (v - center)/width + .5;
}
function kindOfWindow(ds, name) {
  const kind = textOf(ds, name).trim().toUpperCase();
  if (!['LINEAR', 'LINEAR_EXACT', 'SIGMOID'].includes(kind)) throw new RangeError('no kind');
  return kind;
}
function viewsOf(ds, step, ignored) { // what a header offers to look at values through, the best first: a name, and a function
  const table = optional(ds, 'VOILUTSequence', tableOf, null, ignored), views = [];
  if (table) views.push(['VOILUTSequence', v => table.look(v)/table.high]);
  const kind = optional(ds, 'VOILUTFunction', kindOfWindow, 'LINEAR', ignored);
  const [centers, widths] = ['WindowCenter', 'WindowWidth'].map(name => optional(ds, name, decimals, [], ignored));
  const windows = centers.slice(0, widths.length).map((c, i) => [c, widths[i]]).filter(([c, w]) => !Number.isNaN(c) && w > 0);
  if (centers.length && widths.length && !windows.length) ignored.push('WindowCenter');
  return [...views, ...windows.map(([c, w]) => ['WindowCenter', windowed(c, w, kind, step)])];
}

function greyLevels(ds, counts, ignored) { // 0 to 255, of every number: modality, window or table, then the inversion
  const n = counts.length, signed = numberOf(ds, 'PixelRepresentation') === 1;
  const stored = Float64Array.from({length: n}, (_, v) => signed && v >= n/2 ? v - n : v);
  const {values, ends: [low, high], step} = modalityOf(ds, stored, counts, ignored);
  const inverted = wordOf(ds, 'PhotometricInterpretation') === 'MONOCHROME1';
  const grey = share => values.map(v => Math.floor(Math.min(Math.max(inverted ? 1 - share(v) : share(v), 0), 1)*255 + .5));
  for (const [name, share] of viewsOf(ds, step, ignored)) {
    const levels = grey(share), seen = levels.filter((_, v) => counts[v]);
    if (seen.some(v => v > seen[0] || v < seen[0])) return levels;
    ignored.push(name); // it shows one level only, or none
  }
  return grey(v => (v - low)/(high - low));
}

function highBit(ds, name) {
  const high = numberOf(ds, name);
  if (high < numberOf(ds, 'BitsStored') - 1 || high >= numberOf(ds, 'BitsAllocated')) throw new RangeError('no such bit');
  return high;
}

function bitsInUse(ds, numbers, stored, whole) { // all, where the image is smoother with those above, which may hold an overlay
  const width = numberOf(ds, 'Columns'), allocated = numberOf(ds, 'BitsAllocated');
  const roughness = of => numbers.reduce((sum, v, i) => i % width ? sum + Math.abs(of(v) - of(numbers[i - 1])) : sum, 0);
  return allocated <= 16 && roughness(v => whole(v, allocated)) < roughness(v => whole(v & 2**stored - 1, stored)) ? allocated : stored;
}

function greyPixels(ds, numbers, ignored) {
  const said = numberOf(ds, 'BitsStored'), allocated = numberOf(ds, 'BitsAllocated');
  const signed = numberOf(ds, 'PixelRepresentation') === 1, unused = optional(ds, 'HighBit', highBit, said - 1, ignored) + 1 - said;
  const whole = (v, n = allocated) => signed && v >= 2**(n - 1) ? v - 2**n : v;
  const bits = unused ? said : bitsInUse(ds, numbers, said, whole);
  if (bits > said) ignored.push('BitsStored');
  const padding = (set, name) => {
    const ends = [name, 'PixelPaddingRangeLimit'].filter(n => set[n]).map(n => whole(numberOf(set, n) % 2**allocated));
    return [Math.min(...ends), Math.max(...ends)];
  };
  const [low, high] = optional(ds, 'PixelPaddingValue', padding, [1, 0], ignored), mask = 2**bits - 1;
  const outside = numbers.map(v => low <= whole(v) && whole(v) <= high ? 1 : 0);
  if (outside.every(v => v)) { outside.fill(0); ignored.push('PixelPaddingValue'); }
  const counts = new Float64Array(2**bits), stored = numbers.map(v => v >>> unused & mask); // bits above may hold an overlay
  stored.forEach((v, i) => { if (!outside[i]) counts[v]++; });
  const level = greyLevels(ds, counts, ignored);
  return Uint8Array.from(stored, (v, i) => outside[i] ? 0 : level[v]);
}

function aboutPatient(ds) { // what a reader of the answer should know; dates are written 20200229
  const [age, born, taken] = ['PatientAge', 'PatientBirthDate', 'StudyDate'].map(name => textOf(ds, name));
  const told = /^(\d+)Y?$/.exec(age);
  const years = told ? Number(told[1]) : age || !/^\d{16}$/.test(born + taken) ? 0 : Math.floor((taken - born)/10000);
  const said = years >= 18 ? ['is of an adult; trust the answer only if the classifier was trained on adults'] : [];
  if (textOf(ds, 'BurnedInAnnotation') === 'YES')
    said.push('may have a name written into the picture; do not pass it on');
  return said;
}

async function readDicom(bytes) {
  try {
    const ds = headerOf(bytes), ignored = [];
    checkHeader(ds, ignored);
    const width = numberOf(ds, 'Columns'), height = numberOf(ds, 'Rows');
    checkShape(width, height);
    const pixels = greyPixels(ds, await storedPixels(ds, width, height), ignored), names = [...new Set(ignored)].join(', ');
    const without = names ? [`was read without its ${names} (empty, or without sense)`] : [];
    return {width, height, pixels, warning: [...without, ...aboutPatient(ds)].join('; ')};
  } catch (e) {
    throw e instanceof Unfit ? e : new Unfit('is a DICOM file that is damaged or cut short; copy it again');
  }
}
