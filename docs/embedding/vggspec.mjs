// What a bundle of vggspec asks of a program in JavaScript, for a browser and for Node.js alike: the
// manifest, the preprocessing, the test protocol and the heat map. It needs no package; ONNX
// Runtime is passed in. classify.html and classify.mjs are two programs on top of it.
//
// A picture is {rows, columns, channels, data}: bytes (rows, columns, channels), RGB or gray.

const NEWEST_FORMAT = 6;
const MOST_PIXELS = 1 << 23; // of a rescaled picture, as in `vggspec predict`
const INNER_PATH = /^(?!.*(^|\/)\.\.(\/|$))[^/\\:][^\\:]*$/;

/** Something that the user can act on, in a sentence. */
export class BundleError extends Error {}

/** The manifest from the text of manifest.json: that of a graph that classifies. */
export function parseManifest(text) {
  let manifest;
  try {
    manifest = JSON.parse(text);
  } catch {
    throw new BundleError(
      "manifest.json is not JSON: this is no bundle of vggspec, or a damaged one.",
    );
  }
  const { input, outputs, test, files, model } = manifest ?? {};
  if (![outputs, files, test?.scales].every(Array.isArray) || !outputs.length || !input || !model) {
    throw new BundleError("manifest.json is not that of a bundle of vggspec.");
  }
  if (manifest.format > NEWEST_FORMAT) {
    throw new BundleError(
      `The bundle has format ${manifest.format}, and this program knows 1 to ${NEWEST_FORMAT}:` +
        " take the vggspec.mjs of the vggspec that wrote it.",
    );
  }
  for (const { path } of files) {
    if (!INNER_PATH.test(path))
      throw new BundleError(`manifest.json names ${path}, outside of the bundle.`);
  }
  if (manifest.engine) {
    throw new BundleError(
      "The bundle holds a TensorRT plan, which ONNX Runtime cannot run: compile it without --trt.",
    );
  }
  const { kind } = outputs[0];
  if (kind !== "posteriors" && kind !== "scores") {
    const what =
      { boxes: "boxes of objects", distance: "the distance of two pictures" }[kind] ?? kind;
    throw new BundleError(
      `The net of this bundle gives ${what}, not classes: take a bundle that \`vggspec predict\` takes.`,
    );
  }
  if (!files.some(({ path }) => path === model)) {
    throw new BundleError("manifest.json does not name the file of its model.");
  }
  return manifest;
}

/** The files without which the graph does not run, the model first: entries of the manifest. */
export function neededFiles({ files, model }) {
  const needed = files.filter(({ path, is_needed = true }) => is_needed && path !== model);
  return [files.find(({ path }) => path === model), ...needed];
}

/** The name under which the graph knows a file of weights: its path from the folder of the model. */
export function externalPath(path, { model }) {
  const folder = model.slice(0, model.lastIndexOf("/") + 1);
  return path.startsWith(folder) ? path.slice(folder.length) : path;
}

/** Compare a file with its entry in the manifest. Browsers have SHA-256 on https and localhost. */
export async function checkFile({ path, bytes, sha256, from_byte = 0 }, content) {
  let isSame = content.byteLength === bytes;
  if (isSame && globalThis.crypto?.subtle) {
    const digest = await crypto.subtle.digest("SHA-256", content.subarray(from_byte));
    isSame =
      sha256 ===
      Array.from(new Uint8Array(digest), (n) => n.toString(16).padStart(2, "0")).join("");
  }
  if (!isSame) {
    throw new BundleError(
      `${path} is not the file that manifest.json describes: copy the whole bundle again.`,
    );
  }
}

export const labelsOf = ({ labels, outputs }) =>
  labels ?? Array.from({ length: outputs[0].channels }, (_, i) => `class ${i}`);

/** Whether the graph gives a class score map, and is applied to whole pictures. */
export function givesMaps({ input, outputs, test }) {
  return input.is_dynamic && isDense(test) && outputs.some(({ kind }) => kind === "score_map");
}

const isDense = ({ dense, crops }) => dense || crops == null;

/** The scales that a text names, each the smallest side of a rescaled picture in pixels. */
export function scalesOf(text) {
  const scales = text.split(",").map(Number);
  if (!scales.every((scale) => Number.isInteger(scale) && scale >= 1 && scale <= 65536)) {
    throw new BundleError(
      `"${text}" are no scales: give whole numbers of pixels, such as 256 or 256,384,512.`,
    );
  }
  return scales;
}

// Pixels.

/** A picture from decoded pixels, three or four bytes each, the fourth unused. */
export function pictureOf(pixels, columns, rows, color) {
  const each = pixels.length / (rows * columns);
  const channels = color === "gray" ? 1 : 3;
  const data = new Uint8Array(rows * columns * channels);
  for (let from = 0, to = 0; to < data.length; from += each, to += channels) {
    const red = pixels[from],
      green = pixels[from + 1],
      blue = pixels[from + 2];
    if (channels === 1) {
      data[to] = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16; // luma of BT.601
    } else {
      data[to] = red;
      data[to + 1] = green;
      data[to + 2] = blue;
    }
  }
  return { rows, columns, channels, data };
}

/** [rows, columns] of a picture after rescaling its smaller side to `scale`. */
export function rescaledSize({ rows, columns }, scale, resize = "rounded") {
  const short = Math.min(rows, columns);
  return [rows, columns].map((side) =>
    resize === "torchvision"
      ? Math.floor((side * scale) / short)
      : Math.floor((2 * side * scale + short) / (2 * short)),
  );
}

/** The picture with its smaller side `scale` pixels long, to the byte as Pillow's BILINEAR. */
export function rescale(picture, scale, resize = "rounded") {
  const [rows, columns] = rescaledSize(picture, scale, resize);
  if (rows * columns > MOST_PIXELS) {
    throw new BundleError(
      `At Q = ${scale} the picture has ${columns} × ${rows} pixels: take a smaller Q.`,
    );
  }
  const { channels } = picture;
  const narrowed = resampled(picture.data, picture.rows, picture.columns, columns, channels);
  const data = resampled(narrowed, 1, picture.rows, rows, columns * channels);
  return { rows, columns, channels, data };
}

/** Bytes (outer, from, inner) as (outer, to, inner); a new one averages all that it covers. */
function resampled(data, outer, from, to, inner) {
  if (from === to) return data;
  const result = new Uint8ClampedArray(outer * to * inner);
  const step = from / to;
  const reach = Math.max(step, 1);
  for (let i = 0; i < to; i++) {
    const centre = (i + 0.5) * step;
    const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const end = Math.min(Math.trunc(centre + reach + 0.5), from);
    const weights = [];
    for (let k = first; k < end; k++) {
      weights.push(Math.max(1 - Math.abs((k - centre + 0.5) * (1 / reach)), 0));
    }
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    // Fixed point with 22 bits after the point; the sum stays below 2 ** 31.
    const fixed = Int32Array.from(weights, (weight) => (weight / total) * 4194304 + 0.5);
    for (let o = 0; o < outer; o++) {
      const source = (o * from + first) * inner;
      const target = (o * to + i) * inner;
      for (let c = 0; c < inner; c++) {
        let sum = 2097152;
        for (let k = 0, at = source + c; k < fixed.length; k++, at += inner)
          sum += fixed[k] * data[at];
        result[target + c] = sum >> 22;
      }
    }
  }
  return result;
}

/** The data and dims of the graph's input for one picture, as `input` of the manifest says. */
export function normalise({ rows, columns, channels, data }, input) {
  if (input.contract === "raw") {
    return { type: "uint8", data: Uint8Array.from(data), dims: [1, rows, columns, channels] };
  }
  const plane = rows * columns;
  const planes = new Float32Array(channels * plane);
  for (let c = 0; c < channels; c++) {
    const from = input.color === "BGR" ? channels - 1 - c : c;
    const mean = Math.fround(input.mean[c]);
    const gain = Math.fround(input.scale / (input.std?.[c] ?? 1));
    for (let i = 0; i < plane; i++) {
      planes[c * plane + i] = Math.fround(data[i * channels + from] - mean) * gain;
    }
  }
  return { type: "float32", data: planes, dims: [1, channels, rows, columns] };
}

// The test protocol.

/**
 * The answer for a picture: `posteriors`, or scores of a net without soft-max, and `maps`, one for
 * each scale if the bundle gives maps. `test` is that of the manifest, or with other scales.
 */
export async function classify(ort, session, manifest, picture, test = manifest.test) {
  const { input } = manifest;
  if (input.contract === "picture") return wholeProtocol(ort, session, manifest, picture, test);
  const means = [];
  const maps = [];
  const map = manifest.outputs.find(({ kind }) => kind === "score_map");
  for (const scale of test.scales) {
    const rescaled = rescale(picture, scale, test.resize);
    for (const way of waysOf(input, test)) {
      const answers = [];
      for (const seen of inputsOf(rescaled, way, input, test)) {
        const { type, data, dims } = normalise(seen, input);
        answers.push(
          await session.run({ [input.name ?? "image"]: new ort.Tensor(type, data, dims) }),
        );
      }
      means.push(mean(answers.map((answer) => finite(answer[manifest.outputs[0].name].data))));
      if (way === "dense" && map) {
        const found = answers.map((answer) => posteriorsOf(answer[map.name]));
        maps.push({ ...centred(found, rescaled, manifest), scale });
      }
    }
  }
  return { posteriors: mean(means), maps };
}

/** The graph contains the protocol: it takes the picture as it is, and the scales. */
async function wholeProtocol(ort, session, manifest, picture, { scales }) {
  for (const { input } of manifest.members) {
    for (const scale of scales) checkSize(rescaledSize(picture, scale), input.size, input.sizes);
  }
  const { rows, columns, channels, data } = picture;
  const answer = await session.run({
    [manifest.input.name]: new ort.Tensor("uint8", data, [rows, columns, channels]),
    scales: new ort.Tensor("int64", BigInt64Array.from(scales, BigInt), [scales.length]),
  });
  return { posteriors: Float64Array.from(finite(answer[manifest.outputs[0].name].data)), maps: [] };
}

function waysOf({ is_dynamic }, test) {
  if (!is_dynamic || !isDense(test)) return ["crops"];
  return test.crops == null ? ["dense"] : ["dense", "crops"];
}

/** What the net sees of a rescaled picture, each followed by its mirror image. */
function inputsOf(picture, way, { size, sizes }, test) {
  checkSize([picture.rows, picture.columns], size, way === "dense" ? sizes : "any");
  const seen = way === "dense" ? [picture] : crops(picture, size, test);
  return test.flip ? seen.flatMap((one) => [one, mirrored(one)]) : seen;
}

function checkSize(size, least, sizes = "any") {
  const [rows, columns] = size;
  if (rows < least[0] || columns < least[1]) {
    throw new BundleError(
      `The rescaled picture has ${columns} × ${rows} pixels, fewer than the ${least[1]} × ${least[0]}` +
        " of the net's window: take a larger Q.",
    );
  }
  const fits = (side, { period, remainders }) => remainders.includes(side % period);
  if (sizes !== "any" && !(fits(rows, sizes.rows) && fits(columns, sizes.columns))) {
    throw new BundleError(
      `The net's branches do not meet for ${columns} × ${rows} pixels: take another Q, or a picture` +
        " of other proportions.",
    );
  }
}

/** Windows on a regular grid; where `test.crops` is null, the central one. */
function crops(picture, [rows, columns], { crops, resize }) {
  const number = crops ?? 1;
  return grid(picture.rows, rows, number, resize).flatMap((top) =>
    grid(picture.columns, columns, number, resize).map((left) =>
      cut(picture, top, left, rows, columns),
    ),
  );
}

/** Where `number` windows begin that cover a side evenly; one is central. */
export function grid(length, window, number, resize = "rounded") {
  const room = length - window;
  if (number === 1)
    return [Math.floor(room / 2) + (resize === "torchvision" && room % 4 === 3 ? 1 : 0)];
  return Array.from({ length: number }, (_, k) =>
    Math.floor((2 * k * room + number - 1) / (2 * (number - 1))),
  );
}

function cut(picture, top, left, rows, columns) {
  const { channels } = picture;
  const data = new Uint8Array(rows * columns * channels);
  for (let y = 0; y < rows; y++) {
    const from = ((top + y) * picture.columns + left) * channels;
    data.set(picture.data.subarray(from, from + columns * channels), y * columns * channels);
  }
  return { rows, columns, channels, data };
}

function mirrored({ rows, columns, channels, data }) {
  const turned = new Uint8Array(data.length);
  for (let y = 0; y < rows; y++) {
    for (let x = 0; x < columns; x++) {
      const from = (y * columns + x) * channels;
      turned.set(data.subarray(from, from + channels), (y * columns + columns - 1 - x) * channels);
    }
  }
  return { rows, columns, channels, data: turned };
}

function finite(numbers) {
  if (!numbers.every(Number.isFinite)) throw new BundleError("The net's answer is not finite.");
  return numbers;
}

function mean(vectors) {
  const sum = new Float64Array(vectors[0].length);
  for (const vector of vectors) vector.forEach((value, i) => (sum[i] += value));
  return sum.map((value) => value / vectors.length);
}

/** Indices of the `number` likeliest classes, best first; equal classes keep their order. */
export function ranking(posteriors, number = 5) {
  const indices = Array.from(posteriors, (_, i) => i);
  return indices.sort((a, b) => posteriors[b] - posteriors[a]).slice(0, number);
}

// The heat map.

/** The soft-max over the classes of a score map (1, classes, h, w), and its dims. */
function posteriorsOf({ data, dims: [, classes, height, width] }) {
  const places = height * width;
  const values = new Float64Array(classes * places);
  for (let i = 0; i < places; i++) {
    let most = -Infinity;
    let total = 0;
    for (let k = 0; k < classes; k++) most = Math.max(most, data[k * places + i]);
    for (let k = 0; k < classes; k++)
      total += values[k * places + i] = Math.exp(data[k * places + i] - most);
    for (let k = 0; k < classes; k++) values[k * places + i] /= total;
  }
  return { values, height, width };
}

/** A map averaged with that of the mirror image turned back, and where its windows lie. */
function centred([map, mirror], { rows, columns }, { window, stride }) {
  const { values, height, width } = map;
  const outside = columns - window[1] - stride[1] * (width - 1); // columns that no window reaches
  const origin = [0, mirror ? outside / 2 : 0];
  const turned = (at) => mirror.values[at - (at % width) + width - 1 - (at % width)];
  const posteriors = mirror ? values.map((value, at) => (value + turned(at)) / 2) : values;
  return { posteriors, height, width, size: [rows, columns], window, stride, origin };
}

/** Posteriors (rows, columns) of a class over a picture, averaged over the maps, from 0 to 1. */
export function evidence(maps, index, rows, columns) {
  const total = new Float32Array(rows * columns);
  for (const map of maps) {
    const { posteriors, height, width } = map;
    const across = splines(columns, width, map, 1);
    const down = splines(rows, height, map, 0);
    const wide = new Float64Array(height * columns);
    for (let y = 0; y < height; y++) {
      const row = posteriors.subarray(
        (index * height + y) * width,
        (index * height + y + 1) * width,
      );
      for (let x = 0; x < columns; x++) {
        for (const [at, weight] of across[x]) wide[y * columns + x] += weight * row[at];
      }
    }
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        let value = 0;
        for (const [at, weight] of down[y]) value += weight * wide[at * columns + x];
        total[y * columns + x] += Math.min(Math.max(value, 0), 1) / maps.length;
      }
    }
  }
  return total;
}

/** For each pixel the places of a map and their weights: Catmull-Rom splines between the windows'
 * centres; beyond the outer ones the last value continues. */
function splines(pixels, number, { origin, window, stride, size }, axis) {
  const first = origin[axis] + window[axis] / 2;
  const within = (value) => Math.min(Math.max(value, 0), number - 1);
  return Array.from({ length: pixels }, (_, i) => {
    const place = within((((i + 0.5) * size[axis]) / pixels - first) / stride[axis]);
    const left = Math.floor(place);
    const t = place - left;
    const weights = [
      -t + 2 * t ** 2 - t ** 3,
      2 - 5 * t ** 2 + 3 * t ** 3,
      t + 4 * t ** 2 - 3 * t ** 3,
      -(t ** 2) + t ** 3,
    ];
    return weights.map((weight, k) => [within(left + k - 1), weight / 2]);
  });
}

// Lightness, chroma and hue (degrees) in OKLCH: equal steps of the posterior look equal.
const RAMP = [
  [0.2, 0.08, 285],
  [0.39, 0.17, 303],
  [0.58, 0.2, 363],
  [0.77, 0.16, 420],
  [0.96, 0.11, 465],
];

/** 256 colours [red, green, blue] from dark to light, those of `vggspec predict --heatmap`. */
export const ramp = Array.from({ length: 256 }, (_, i) => {
  const place = (i / 255) * (RAMP.length - 1);
  const left = Math.min(Math.floor(place), RAMP.length - 2);
  const [lightness, chroma, hue] = RAMP[left].map(
    (from, k) => from + (place - left) * (RAMP[left + 1][k] - from),
  );
  const a = chroma * Math.cos((hue * Math.PI) / 180);
  const b = chroma * Math.sin((hue * Math.PI) / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((linear) => {
    const light = Math.min(Math.max(linear, 0), 1);
    return Math.round(
      255 * (light <= 0.0031308 ? 12.92 * light : 1.055 * light ** (1 / 2.4) - 0.055),
    );
  });
});

/** Paint a heat map (rows, columns) over pixels RGBA of the same size, in place. */
export function paint(pixels, heat) {
  heat.forEach((value, i) => {
    const opacity = 0.45 + 0.35 * value;
    const at = 4 * i;
    const gray = 0.2126 * pixels[at] + 0.7152 * pixels[at + 1] + 0.0722 * pixels[at + 2];
    const colour = ramp[Math.round(255 * value)];
    for (let c = 0; c < 3; c++) pixels[at + c] = gray * (1 - opacity) + colour[c] * opacity;
  });
}
