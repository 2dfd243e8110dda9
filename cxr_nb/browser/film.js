// From the bytes of a file to the grey square that the network sees: what `read_xray` does in Python, to the bit for PNG.

class Unfit extends Error {} // what is wrong with an X-ray, and what to do, without its name

const text = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));

// How a DICOM file begins that lacks the mark: with a tag of group 2 or 8
const BARE = new RegExp('^(?:[\\x02\\x08]\\0[\\0-\\x60]\\0(?:AE|AS|AT|CS|DA|DT|IS|LO|OB|OW|PN|SH|SQ|ST|TM|UI|UL|UN|US)'
  + '|\\x08\\0[\\x05\\x08\\x12\\x14\\x16\\x18\\x20]\\0.[\\0\\x01]\\0\\0'
  + '|([\\x02\\x08])\\0\\0\\0\\x04\\0\\0\\0.{4}\\1\\0)', 's');

function kindOf(head, name) { // the first bytes of a file
  const starts = s => text(head, 0, s.length) === s;
  if (text(head, 128, 132) === 'DICM' || BARE.test(text(head, 0, 132))) return 'DICOM';
  if (starts('\x89PNG\r\n\x1a\n')) return 'PNG';
  if (starts('\xff\xd8\xff')) return 'JPEG';
  if (!head.length) throw new Unfit('is empty; copy it again');
  if (starts('II*\0') || starts('MM\0*')) throw new Unfit('is a TIFF, which this page does not read; save it as PNG, or ask cxr_predict');
  if (starts('GIF8') || starts('BM') || (starts('RIFF') && text(head, 8, 12) === 'WEBP'))
    throw new Unfit('is an image, but neither JPEG nor PNG; save it as one of these, or ask cxr_predict');
  if (starts('%PDF')) throw new Unfit('is a PDF; save the X-ray in it as JPEG or PNG');
  if (text(head, 4, 8) === 'ftyp' || starts('\x1a\x45\xdf\xa3') || starts('RIFF') || starts('\0\0\x01\xba'))
    throw new Unfit('is a video or a phone\'s own image format; save one picture as JPEG or PNG');
  if (/\.(dcm|dicom)$/i.test(name)) throw new Unfit('is not a DICOM file (it does not begin like one); export it again');
  throw new Unfit('is not an image; choose a JPEG, PNG or DICOM file');
}

function checkShape(w, h) {
  if (w*h > 2**26) throw new Unfit(`has ${Math.round(w*h/1e6).toLocaleString('en')} million pixels; save it with at most 67`);
  if (Math.min(w, h) < 32) throw new Unfit(`is ${w} by ${h} pixels; an X-ray needs at least 32 on each side`);
  if (Math.max(w, h) > 4*Math.min(w, h)) throw new Unfit(`is ${w} by ${h} pixels, more than 4 to 1; take the whole X-ray`);
}

// EXIF: where the orientation stands in a TIFF header that starts at `at`; null where there is none
function findOrientation(bytes, at) {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at), little = view.getUint16(0) === 0x4949;
  if (!little && view.getUint16(0) !== 0x4d4d) return null;
  const first = view.getUint32(4, little), n = view.getUint16(first, little);
  for (let i = 0; i < n; i++) {
    const entry = first + 2 + 12*i;
    if (view.getUint16(entry, little) === 0x112) return {view, at: entry + 8, little, value: view.getUint16(entry + 8, little)};
  }
  return null;
}
const orientationOf = (bytes, at) => { try { return findOrientation(bytes, at); } catch { return null; } }; // a broken tag is no tag

function upright({width: w, height: h, pixels}, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return {width: w, height: h, pixels};
  const swap = orientation >= 5, flipX = [2, 3, 7, 8].includes(orientation), flipY = [3, 4, 6, 7].includes(orientation);
  const W = swap ? h : w, H = swap ? w : h, out = new pixels.constructor(w*h);
  for (let y = 0; y < H; y++) for (let x = 0; x < W; x++) {
    const a = swap ? y : x, b = swap ? x : y;
    out[y*W + x] = pixels[(flipY ? h - 1 - b : b)*w + (flipX ? w - 1 - a : a)];
  }
  return {width: W, height: H, pixels: out};
}

const luma = (r, g, b) => (r*19595 + g*38470 + b*7471 + 0x8000) >> 16; // PIL's convert('L')
function overBlack(v, a) { // PIL's alpha_composite over black
  const t = v*a*128 + 0x4000;
  return (((t >> 8) + t) >> 8) >> 7;
}

// The ends of what an image holds, without its one pixel in 10,000 that may be dead or hot
function extent(levels, counts) {
  const order = Array.from(levels.keys()).sort((a, b) => levels[a] - levels[b]), total = counts.reduce((a, b) => a + b, 0);
  const spare = Math.ceil(total/10000);
  let below = 0, low;
  for (const i of order) {
    below += counts[i];
    if (low === undefined && below > spare) low = levels[i];
    if (below >= total - spare) return [low, levels[i]];
  }
}

function depth(low, high) { // the ends of the smallest usual depth that holds both
  const bits = [8, 10, 12, 14, 15, 16].find(b => low < 0 ? -(2**(b - 1)) <= low && high < 2**(b - 1) : high < 2**b);
  const bottom = low < 0 ? -(2**(bits - 1)) : 0;
  return [bottom, bottom + 2**bits - 1];
}

function to8Bits(pixels) { // `to_8_bits` of cxr_nb.film
  const counts = new Float64Array(2**16);
  for (const v of pixels) counts[v]++;
  const most = depth(...extent(Uint32Array.from(counts.keys()), counts))[1], half = Math.floor(most/2);
  return Uint8Array.from(pixels, v => Math.floor((Math.min(v, most)*255 + half)/most));
}

const severalPictures = () => new Unfit('holds several pictures; save the one to judge');

// A PNG decoder of our own: a browser's canvas has 8 bits, manages colours and multiplies by alpha
async function inflate(parts) {
  const stream = new Blob(parts).stream().pipeThrough(new DecompressionStream('deflate'));
  try { return new Uint8Array(await new Response(stream).arrayBuffer()); }
  catch { throw new Unfit('cannot be read (its data are cut off or broken); copy it again'); }
}

function unfilter(data, at, stride, rows, step) { // in place; gives where the next pass starts
  for (let y = 0; y < rows; y++) {
    const type = data[at], row = at + 1, up = row - stride - 1;
    for (let i = 0; i < stride && type; i++) {
      const a = i >= step ? data[row + i - step] : 0, b = y ? data[up + i] : 0, c = y && i >= step ? data[up + i - step] : 0;
      let guess = type === 1 ? a : type === 2 ? b : (a + b) >> 1;
      if (type === 4) {
        const p = a + b - c, pa = Math.abs(p - a), pb = Math.abs(p - b), pc = Math.abs(p - c);
        guess = pa <= pb && pa <= pc ? a : pb <= pc ? b : c;
      }
      data[row + i] += guess;
    }
    at = row + stride;
  }
  return at;
}

async function readPng(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length), parts = [];
  let head, palette, clear, orientation, pictures = 0, framed = false, ended = false;
  for (let at = 8; at + 12 <= bytes.length && !ended;) {
    const n = view.getUint32(at), kind = text(bytes, at + 4, at + 8), body = bytes.subarray(at + 8, at + 8 + n);
    if (kind === 'IHDR') {
      head = {w: view.getUint32(at + 8), h: view.getUint32(at + 12), depth: body[8], colour: body[9], interlaced: body[12]};
      checkShape(head.w, head.h); // before anything is unpacked
    }
    if (kind === 'PLTE') palette = body;
    if (kind === 'tRNS') clear = body;
    if (kind === 'eXIf') orientation = orientationOf(bytes, at + 8)?.value;
    if (kind === 'acTL') pictures = view.getUint32(at + 8); // an animation
    if (kind === 'fcTL') framed = true;
    if (kind === 'IDAT' && !parts.length && pictures + !framed > 1) throw severalPictures();
    if (kind === 'IDAT') parts.push(body);
    ended = kind === 'IEND';
    at += n + 12;
  }
  if (!head) throw new Unfit('cannot be read (its header is broken); copy it again');
  const {w, h, depth, colour, interlaced} = head, channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour], deep = depth === 16;
  if (clear && (depth < 8 && colour === 0 || deep && colour === 2)) throw new Unfit('has a transparent colour of a rare kind; save it without');
  const data = await inflate(parts), step = Math.max(1, channels*depth >> 3);
  const passes = interlaced ? [[0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2]] : [[0, 0, 1, 1]];
  const pixels = deep && colour === 0 ? new Uint16Array(w*h) : new Uint8Array(w*h);
  let at = 0;
  for (const [x0, y0, dx, dy] of passes) {
    const pw = Math.ceil((w - x0)/dx), ph = Math.ceil((h - y0)/dy), stride = Math.ceil(pw*channels*depth/8);
    if (pw <= 0 || ph <= 0) continue;
    if (at + ph*(stride + 1) > data.length) throw new Unfit('cannot be read (it is cut off); copy it again');
    const end = unfilter(data, at, stride, ph, step);
    for (let y = 0; y < ph; y++) for (let x = 0, row = at + y*(stride + 1) + 1; x < pw; x++) {
      const p = row + x*channels*(deep ? 2 : 1), s = k => data[p + (deep ? 2*k : k)]; // 16-bit colours: the high byte, as PIL does
      let v;
      if (colour === 0 || colour === 3) {
        const mask = 2**depth - 1;
        v = deep ? data[p]*256 + data[p + 1] : depth === 8 ? data[p] : data[row + (x*depth >> 3)] >> (8 - depth - x*depth % 8) & mask;
        if (colour === 3) {
          const rgb = [0, 1, 2].map(k => palette[3*v + k] ?? 0), a = clear ? clear[v] ?? 255 : 255;
          v = luma(...rgb.map(c => overBlack(c, a)));
        } else if (depth < 8) v *= 255/mask;
        else if (!deep && clear && v === clear[0]*256 + clear[1]) v = 0;
      } else if (colour === 4) v = overBlack(s(0), s(1));
      else if (colour === 6) v = luma(overBlack(s(0), s(3)), overBlack(s(1), s(3)), overBlack(s(2), s(3)));
      else v = clear && [0, 1, 2].every(k => s(k) === clear[2*k]*256 + clear[2*k + 1]) ? 0 : luma(s(0), s(1), s(2));
      pixels[(y0 + y*dy)*w + x0 + x*dx] = v;
    }
    at = end;
  }
  const film = upright({width: w, height: h, pixels}, orientation);
  return pixels instanceof Uint16Array ? {...film, pixels: to8Bits(film.pixels)} : film;
}

// JPEG: the browser decodes; shape, orientation and the end of the data are looked up here
async function decodeJpeg(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let at = 2, frame, turn;
  for (; at + 4 <= bytes.length; at += 2 + view.getUint16(at + 2)) {
    const marker = view.getUint16(at);
    if (marker === 0xffda) break;
    if (marker === 0xffe1 && text(bytes, at + 4, at + 10) === 'Exif\0\0') turn ??= orientationOf(bytes, at + 10);
    if (marker === 0xffe2 && text(bytes, at + 4, at + 8) === 'MPF\0') throw severalPictures();
    if (marker >= 0xffc0 && marker <= 0xffcf && ![0xffc4, 0xffc8, 0xffcc].includes(marker))
      frame = {depth: bytes[at + 4], h: view.getUint16(at + 5), w: view.getUint16(at + 7), channels: bytes[at + 9]};
  }
  if (!frame) throw new Unfit('cannot be read (its header is broken); copy it again');
  checkShape(frame.w, frame.h);
  if (frame.depth !== 8 || frame.channels > 3) throw new Unfit('is a JPEG of a rare kind (more than 8 bits, or CMYK); save it as a grey PNG');
  let end = at;
  while (end < bytes.length && !(bytes[end] === 0xff && bytes[end + 1] === 0xd9)) end++;
  if (end >= bytes.length) throw new Unfit('cannot be read (it is cut off); copy it again'); // a browser would fill it up with grey
  const orientation = turn?.value;
  turn?.view.setUint16(turn.at, 1, turn.little); // browsers differ in what they do with it, so none gets to see it
  let picture;
  try { picture = await createImageBitmap(new Blob([bytes], {type: 'image/jpeg'}), {colorSpaceConversion: 'none', premultiplyAlpha: 'none'}); }
  catch { throw new Unfit('cannot be read (the browser could not decode it); copy it again, or save it as PNG'); }
  const {width, height} = picture, canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext('2d', {willReadFrequently: true});
  pen.drawImage(picture, 0, 0);
  picture.close();
  const rgba = pen.getImageData(0, 0, width, height).data, pixels = new Uint8Array(width*height);
  for (let i = 0, j = 0; i < pixels.length; i++, j += 4) pixels[i] = luma(rgba[j], rgba[j + 1], rgba[j + 2]);
  return {width, height, pixels, orientation, channels: frame.channels};
}

async function readJpeg(bytes) {
  const film = await decodeJpeg(bytes);
  return upright(film, film.orientation);
}

// PIL's bilinear `resize`: weights of 22 binary places, a pass per direction, each rounded to 8 bits
function taps(n, size) {
  const scale = n/size, wide = Math.max(scale, 1), out = [];
  for (let i = 0; i < size; i++) {
    const middle = (i + .5)*scale, from = Math.max(Math.trunc(middle - wide + .5), 0), to = Math.min(Math.trunc(middle + wide + .5), n);
    const w = [];
    let sum = 0;
    for (let x = from; x < to; x++) { w.push(Math.max(1 - Math.abs((x - middle + .5)*(1/wide)), 0)); sum += w.at(-1); }
    out.push({from, w: Int32Array.from(w, v => Math.floor(v*(1/sum)*2**22 + .5))});
  }
  return out;
}

function shrink({width, height, pixels}, size, across) {
  const n = across ? width : height, lines = across ? height : width, step = across ? 1 : width, next = across ? width : 1;
  const W = across ? size : width, out = new Uint8Array(size*lines), outStep = across ? 1 : W, outNext = across ? W : 1;
  for (const [i, {from, w}] of taps(n, size).entries()) for (let line = 0; line < lines; line++) {
    let sum = 2**21;
    for (let k = 0, at = line*next + from*step; k < w.length; k++, at += step) sum += pixels[at]*w[k];
    out[i*outStep + line*outNext] = sum >> 22;
  }
  return {width: W, height: across ? height : size, pixels: out};
}

function squeeze(film, size) {
  const {width: w, height: h} = film, tall = h > size && h - size > 2*(w - size); // then Pillow 13 does the columns first
  return shrink(shrink(film, size, !tall), size, tall).pixels;
}

async function readFilm(file) { // a File or Blob; gives {width, height, pixels} in grey, upright, and perhaps a warning
  const head = new Uint8Array(await file.slice(0, 256).arrayBuffer());
  if (file.size > 2**28) throw new Unfit('is larger than 256 MB; save it as 8-bit PNG or JPEG');
  const read = {PNG: readPng, JPEG: readJpeg, DICOM: readDicom}[kindOf(head, file.name)], film = await read(new Uint8Array(await file.arrayBuffer()));
  if (film.pixels.every(v => v === film.pixels[0])) throw new Unfit('has one single grey level; it shows nothing');
  return film;
}
