// A DICOM file as a grey film: what `cxr_nb.film` does with one, in the same order and the same sentences.
// Only the tags named here are read.

const TAGS = {
  CodeMeaning: 0x00080104, StudyDate: 0x00080020, Modality: 0x00080060, ViewCodeSequence: 0x00540220,
  PatientBirthDate: 0x00100030, PatientAge: 0x00101010, BodyPartExamined: 0x00180015, ViewPosition: 0x00185101,
  PatientOrientation: 0x00200020, TransferSyntaxUID: 0x00020010, SamplesPerPixel: 0x00280002,
  PhotometricInterpretation: 0x00280004, NumberOfFrames: 0x00280008, Rows: 0x00280010, Columns: 0x00280011,
  BitsAllocated: 0x00280100, BitsStored: 0x00280101, PixelRepresentation: 0x00280103, BurnedInAnnotation: 0x00280301,
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
    const at = reader.tags(meta, 132, Infinity, false, false, 2), syntax = textOf(meta, 'TransferSyntaxUID');
    if (['1.2.840.10008.1.2.1.99', '1.2.840.10008.1.2.2'].includes(syntax)) refuseSyntax(syntax); // so is the header
    reader.tags(ds, at, Infinity);
  } catch (e) { if (!(e instanceof RangeError)) throw e; } // cut short: what was read so far counts
  return {...ds, TransferSyntaxUID: meta.TransferSyntaxUID};
}

const textOf = (ds, name) => Array.from(ds[name]?.bytes ?? [], c => String.fromCharCode(c)).join('')
  .replace(/[ \0]+$/, '');
function clean(ds, name) { // may be shown; with a damaged length, the next tag stands in it, perhaps a person's name
  const said = textOf(ds, name);
  if (/[\0-\x1f]/.test(said)) throw new RangeError('no word');
  return said.toUpperCase().replace(/[^A-Z0-9 _-]/g, '?').trim();
}
function numberOf(ds, name, i = 0, signed = false) {
  const {buffer, byteOffset, length} = ds[name].bytes, view = new DataView(buffer, byteOffset, length);
  return signed ? view.getInt16(2*i, true) : view.getUint16(2*i, true);
}
function decimal(ds, name) { // the first of several; null where the tag is empty
  const said = textOf(ds, name);
  if (!said) return null;
  const first = said.split('\\')[0].trim();
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(first)) throw new RangeError('no number');
  return Number(first);
}

function refuseSyntax(syntax) {
  const way = UNREAD[syntax] ?? syntax;
  throw new Unfit(`is stored in a way that this page does not read (${way}); `
    + 'export it uncompressed, or ask cxr_predict');
}

const SIDE = /\b(LL|RL|L?LAT|RLAT|LATERAL|OBLIQUE|LAO|RAO|LPO|RPO|LLO|RLO|LLD|RLD|DECUBITUS)\b/;
function checkHeader(ds) {
  const modality = clean(ds, 'Modality'), part = clean(ds, 'BodyPartExamined'), view = clean(ds, 'ViewPosition');
  const colours = clean(ds, 'PhotometricInterpretation');
  const codes = (ds.ViewCodeSequence?.items ?? []).map(item => textOf(item, 'CodeMeaning').toUpperCase());
  if (!['', 'CR', 'DX', 'RG', 'OT'].includes(modality))
    throw new Unfit(`is of the modality ${modality.slice(0, 16)}; take X-rays, CR or DX`);
  if (part && !/CHEST|THORA|TORA|LUNG/.test(part))
    throw new Unfit(`shows ${part.slice(0, 16)}; take X-rays of the chest`);
  if (/^[AP]/.test(textOf(ds, 'PatientOrientation')) || SIDE.test([view, ...codes].join(' ')))
    throw new Unfit('is not a frontal view; take the one that is marked AP or PA');
  const frames = decimal(ds, 'NumberOfFrames') ?? 1;
  if (!Number.isInteger(frames) || frames < 0) throw new RangeError('no number');
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
  if (![IMPLICIT, EXPLICIT].includes(syntax) && /^1\.2\.840\.10008\.1\.2\.[\d.]+$/.test(syntax)) refuseSyntax(syntax);
  const step = allocated/8, {bytes, items} = ds.PixelData, n = width*height;
  const plain = [IMPLICIT, EXPLICIT].includes(syntax) && !items;
  const known = single && [1, 2, 4, 8].includes(step) && stored >= 1 && stored <= allocated
    && numberOf(ds, 'PixelRepresentation') <= 1;
  if (!plain || !known || bytes.length < n*step || bytes.length >= 2*n*step) throw new RangeError('no such pixels');
  const numbers = new Uint16Array(n);
  for (let i = 0; i < n; i++) numbers[i] = bytes[i*step] + (step > 1 ? 256*bytes[i*step + 1] : 0);
  return numbers;
}

function tableOf(ds, name, signed) { // bits of its entries, and how to look a number up
  const item = ds[name]?.items?.[0];
  if (!item) return null;
  const {kind} = item.LUTDescriptor, n = numberOf(item, 'LUTDescriptor') || 2**16;
  const bits = numberOf(item, 'LUTDescriptor', 2);
  const first = numberOf(item, 'LUTDescriptor', 1, kind === 'SS' || !kind && signed);
  return {bits, look: v => numberOf(item, 'LUTData', Math.max(0, Math.min(v - first, n - 1)))};
}

function windowOf(ds, center, width) {
  const kind = textOf(ds, 'VOILUTFunction') || 'LINEAR';
  if (kind === 'LINEAR') { center -= .5; width -= 1; }
  if (!(width > 0 && Number.isFinite(center))) throw new Unfit('has a window without any width; export it again');
  if (kind === 'SIGMOID') return v => 1/(1 + Math.exp(-4*(v - center)/width));
  if (kind === 'LINEAR' || kind === 'LINEAR_EXACT') return v => (v - center)/width + .5;
  throw new Unfit('has a window of a kind that DICOM does not know; export it again');
}

function greyLevels(ds) { // 0 to 255, of every number that a pixel can hold: modality, window, then the inversion
  const n = 2**numberOf(ds, 'BitsStored'), signed = numberOf(ds, 'PixelRepresentation') === 1;
  const rint = v => { const r = Math.round(v); return r - v === .5 && r % 2 ? r - 1 : r; }; // halves to even, as NumPy
  let values = Float64Array.from({length: n}, (_, v) => signed && v >= n/2 ? v - n : v);
  const [modality, voi] = ['ModalityLUTSequence', 'VOILUTSequence'].map(name => tableOf(ds, name, signed));
  if (modality) values = values.map(modality.look);
  else if (ds.RescaleSlope && ds.RescaleIntercept) {
    const slope = decimal(ds, 'RescaleSlope'), intercept = decimal(ds, 'RescaleIntercept');
    if (slope === null || intercept === null) throw new RangeError('no number');
    values = values.map(v => v*slope + intercept);
  }
  let low = values.reduce((a, v) => Math.min(a, v)), high = values.reduce((a, v) => Math.max(a, v));
  if (modality?.bits) { low = 0; high = 2**modality.bits - 1; }
  const center = decimal(ds, 'WindowCenter'), width = decimal(ds, 'WindowWidth');
  if (voi?.bits) { values = values.map(v => voi.look(rint(v))); low = 0; high = 2**voi.bits - 1; }
  else if (center !== null && width !== null) { values = values.map(windowOf(ds, center, width)); low = 0; high = 1; }
  if (!(low < high)) throw new Unfit('has a scale that makes all grey levels one; export it again');
  const inverted = clean(ds, 'PhotometricInterpretation') === 'MONOCHROME1';
  return Uint8Array.from(values, v => {
    const share = Math.min(Math.max((v - low)/(high - low), 0), 1);
    return Math.floor((inverted ? 1 - share : share)*255 + .5);
  });
}

function warningOf(ds) { // what a reader of the answer should know; dates are written 20200229
  const [age, born, taken] = ['PatientAge', 'PatientBirthDate', 'StudyDate'].map(name => textOf(ds, name));
  const told = /^(\d+)Y?$/.exec(age);
  const years = told ? Number(told[1]) : age || !/^\d{16}$/.test(born + taken) ? 0 : Math.floor((taken - born)/10000);
  const said = years >= 18 ? ['is of an adult; trust the answer only if the classifier was trained on adults'] : [];
  if (textOf(ds, 'BurnedInAnnotation') === 'YES')
    said.push('may have a name written into the picture; do not pass it on');
  return said.join('; ');
}

async function readDicom(bytes) {
  try {
    const ds = headerOf(bytes);
    checkHeader(ds);
    const width = numberOf(ds, 'Columns'), height = numberOf(ds, 'Rows');
    checkShape(width, height);
    const numbers = await storedPixels(ds, width, height), level = greyLevels(ds), mask = level.length - 1;
    const pixels = new Uint8Array(numbers.length);
    for (let i = 0; i < pixels.length; i++) pixels[i] = level[numbers[i] & mask]; // bits above may hold an overlay
    return {width, height, pixels, warning: warningOf(ds)};
  } catch (e) {
    throw e instanceof Unfit ? e : new Unfit('is a DICOM file that is damaged or cut short; copy it again');
  }
}
