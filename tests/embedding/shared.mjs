// Calls docs/embedding/vggspec.mjs for tests/test_embedding_js.py:
//
//     node shared.mjs vggspec.mjs [onnxruntime-node]     cases on standard input, answers on standard output
//
// Both are JSON. An array of numbers is {type, shape, base64}; a picture is such an array of bytes.
// With ONNX Runtime a case may have a bundle, else its net is the one of `sampled`.

import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [modulePath, runtimePath] = process.argv.slice(2).map((path) => pathToFileURL(path).href);
const vggspec = await import(modulePath);
const ort = runtimePath
  ? (await import(runtimePath)).default
  : {
      Tensor: class {
        constructor(type, data, dims) {
          Object.assign(this, { type, data, dims });
        }
      },
    };

const KINDS = { uint8: Uint8Array, float32: Float32Array, float64: Float64Array };

function array({ type, base64 }) {
  const bytes = Uint8Array.from(Buffer.from(base64, "base64"));
  return new KINDS[type](bytes.buffer);
}

function coded(data, shape) {
  const type = Object.keys(KINDS).find((name) => data.constructor === KINDS[name]) ?? "uint8";
  const base64 = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("base64");
  return { type, shape, base64 };
}

function picture(given) {
  const [rows, columns, channels] = given.shape;
  return { rows, columns, channels, data: array(given) };
}

/** A net of window 16 and stride 4 that samples the picture in a way that no mirror image does. */
const sampled = {
  async run({
    image: {
      data,
      dims: [, channels, rows, columns],
    },
  }) {
    const [classes, height, width] = [
      5,
      Math.floor((rows - 16) / 4) + 1,
      Math.floor((columns - 16) / 4) + 1,
    ];
    const scores = new Float32Array(classes * height * width);
    const sums = new Float64Array(classes);
    for (let k = 0, at = 0; k < classes; k++) {
      for (let i = 0; i < height; i++) {
        for (let j = 0; j < width; j++, at++) {
          for (let c = 0; c < channels; c++) {
            scores[at] += data[(c * rows + 4 * i + 3 * k) * columns + 4 * j + 2 * k + 1] / channels;
          }
          sums[k] += scores[at] / (height * width);
        }
      }
    }
    const powers = sums.map(Math.exp);
    const total = powers.reduce((sum, power) => sum + power, 0);
    return {
      posteriors: { data: Float32Array.from(powers, (power) => power / total), dims: [1, classes] },
      score_map: { data: scores, dims: [1, classes, height, width] },
    };
  },
};

const answers = {
  pictureOf({ pixels, color }) {
    const [rows, columns] = pixels.shape;
    const { data, channels } = vggspec.pictureOf(array(pixels), columns, rows, color);
    return coded(data, [rows, columns, channels]);
  },
  rescale({ image, scale, resize }) {
    const { data, rows, columns, channels } = vggspec.rescale(picture(image), scale, resize);
    return coded(data, [rows, columns, channels]);
  },
  normalise({ image, input }) {
    const { data, dims } = vggspec.normalise(picture(image), input);
    return coded(data, dims);
  },
  grid: ({ length, window, number, resize }) => vggspec.grid(length, window, number, resize),
  ramp: () => vggspec.ramp,
  parseManifest: ({ text }) =>
    vggspec.neededFiles(vggspec.parseManifest(text)).map(({ path }) => path),
  checkFile: ({ entry, content }) => vggspec.checkFile(entry, array(content)),
  scalesOf: ({ text }) => vggspec.scalesOf(text),
  async classify({ bundle, manifest, image, test, heat }) {
    const parsed = vggspec.parseManifest(
      manifest ?? readFileSync(`${bundle}/manifest.json`, "utf8"),
    );
    const session = bundle
      ? await ort.InferenceSession.create(`${bundle}/${parsed.model}`)
      : sampled;
    const { posteriors, maps } = await vggspec.classify(
      ort,
      session,
      parsed,
      picture(image),
      test ?? parsed.test,
    );
    const size = heat?.size ?? [0, 0];
    const evidence =
      maps.length && heat ? vggspec.evidence(maps, heat.index, ...size) : new Float32Array(0);
    return { posteriors: [...posteriors], heat: coded(evidence, maps.length && heat ? size : [0]) };
  },
};

const found = [];
for (const [name, given] of JSON.parse(readFileSync(0, "utf8"))) {
  try {
    found.push({ value: (await answers[name](given)) ?? null });
  } catch (error) {
    if (!(error instanceof vggspec.BundleError)) throw error;
    found.push({ error: error.message });
  }
}
process.stdout.write(JSON.stringify(found));
