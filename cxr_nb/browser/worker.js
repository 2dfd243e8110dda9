// The worker: reads X-rays and asks the network, so that the page never waits. It answers messages {id, what, ...}.

globalThis.window = undefined; // the runtime's code is told that there is no page here
let session, size;
let last = {}; // the file that was read last, and its X-ray

async function unpack(packed) { // base64 of a gzipped file
  let bytes;
  if (Uint8Array.fromBase64) bytes = Uint8Array.fromBase64(packed);
  else bytes = Uint8Array.from(atob(packed), c => c.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).arrayBuffer();
}

async function start(parts) {
  if (typeof WebAssembly === 'undefined')
    throw new Unfit('This browser has no WebAssembly, or it is switched off; open the page in a current one.');
  if (typeof DecompressionStream === 'undefined' || typeof OffscreenCanvas === 'undefined')
    throw new Unfit('This browser is too old for this page; open it in a current one.');
  const {InferenceSession, env} = globalThis.ort;
  size = parts.size;
  const [wasmBinary, model] = await Promise.all([parts.runtime, parts.model].map(unpack));
  Object.assign(env.wasm, {numThreads: 1, proxy: false, wasmBinary});
  session = await InferenceSession.create(new Uint8Array(model), {executionProviders: ['wasm']});
}

function otherKind(head) { // which the browser decodes, if it can
  if (text(head, 0, 2) === 'BM') return 'BMP';
  return text(head, 0, 4) === 'RIFF' && text(head, 8, 12) === 'WEBP' ? 'WebP' : null;
}

async function decodeOther(file, kind, head) {
  if (text(head, 12, 16) === 'VP8X' && head[20] & 2) throw new Unfit('holds several frames; save one of them');
  const picture = await createImageBitmap(file, {colorSpaceConversion: 'none'})
    .catch(() => { throw new Unfit(`is a ${kind} that this browser cannot decode; save it as PNG, or ask cxr_predict`); });
  const {width, height} = picture;
  checkShape(width, height);
  const pen = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
  pen.fillRect(0, 0, width, height); // what is transparent is black
  pen.drawImage(picture, 0, 0);
  picture.close();
  const {data} = pen.getImageData(0, 0, width, height), pixels = new Uint8Array(width*height);
  for (let i = 0, j = 0; i < pixels.length; i++, j += 4) pixels[i] = luma(data[j], data[j + 1], data[j + 2]);
  if (pixels.every(v => v === pixels[0])) throw new Unfit('has one single grey level; it shows nothing');
  return {width, height, pixels};
}

async function read(file, key) {
  if (last.key === key) return last.xray;
  last = {}; // gives its memory back before the next one needs some
  const head = new Uint8Array(await file.slice(0, 32).arrayBuffer()), kind = otherKind(head);
  last = {key, xray: kind ? await decodeOther(file, kind, head) : await readFilm(file)};
  return last.xray;
}

async function ask({file, key}) {
  const xray = await read(file, key), square = new globalThis.ort.Tensor('uint8', squeeze(xray, size), [1, size, size]);
  const answer = await session.run({[session.inputNames[0]]: square}), [, rows, columns] = answer.map.dims;
  return {warning: xray.warning, probability: answer.probability.data[0], oodScore: answer.ood_score.data[0],
    logits: answer.logits.data, map: {rows, columns, values: answer.map.data}};
}

const shrunk = (canvas, most) => { // a bitmap with sides of at most so many pixels
  const scale = Math.min(1, most/Math.max(canvas.width, canvas.height));
  const [resizeWidth, resizeHeight] = [canvas.width, canvas.height].map(n => Math.round(n*scale));
  return createImageBitmap(canvas, {resizeWidth, resizeHeight, resizeQuality: 'high'});
};

async function draw({file, key}) { // the X-ray to look at: as fine as a screen may need it, and a smaller copy to see it whole
  const {width, height, pixels} = await read(file, key), canvas = new OffscreenCanvas(width, height);
  const pen = canvas.getContext('2d'), strip = Math.min(height, 256);
  for (let y = 0; y < height; y += strip) {
    const image = new ImageData(width, Math.min(strip, height - y)), rgba = new Uint32Array(image.data.buffer);
    for (let i = 0, at = y*width; i < rgba.length; i++, at++) rgba[i] = 0xff000000 | pixels[at]*0x010101;
    pen.putImageData(image, 0, y);
  }
  return {width, height, full: await shrunk(canvas, 4096), small: await shrunk(canvas, 1600)};
}

onmessage = async ({data: {id, what, ...parts}}) => {
  try {
    const answer = await {start, ask, draw}[what](parts) ?? {};
    postMessage({id, answer}, [answer.full, answer.small].filter(Boolean));
  } catch (e) {
    postMessage({id, error: e.message, unfit: e instanceof Unfit});
  }
};
