// Classify pictures with a bundle in Node.js, without vggspec.
//
//     npm install onnxruntime-node sharp
//     node classify.mjs BUNDLE [--scales 256,384,512] PICTURE...
//
// It needs vggspec.mjs beside it. The scales are the smallest sides in pixels to which a picture is
// rescaled; without the option they are those of the bundle.

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { parseArgs } from "node:util";
import ort from "onnxruntime-node";
import sharp from "sharp";
import {
  BundleError,
  checkFile,
  classify,
  labelsOf,
  neededFiles,
  parseManifest,
  pictureOf,
  ranking,
  scalesOf,
} from "./vggspec.mjs";

async function main() {
  const options = { scales: { type: "string" } };
  const { values, positionals } = parseArgs({ options, allowPositionals: true });
  const [bundle, ...paths] = positionals;
  if (!paths.length)
    throw new BundleError("usage: node classify.mjs BUNDLE [--scales Q,Q] PICTURE...");
  const manifest = parseManifest(await readFile(join(bundle, "manifest.json"), "utf8"));
  const test = { ...manifest.test, ...(values.scales && { scales: scalesOf(values.scales) }) };
  for (const entry of neededFiles(manifest)) {
    await checkFile(entry, await readFile(join(bundle, entry.path)));
  }
  const session = await ort.InferenceSession.create(join(bundle, manifest.model));
  const labels = labelsOf(manifest);
  for (const path of paths) {
    const picture = await read(path, manifest.input.color);
    const { posteriors } = await classify(ort, session, manifest, picture, test);
    console.log(path);
    for (const index of ranking(posteriors)) {
      console.log(`  ${posteriors[index].toFixed(6)}  ${labels[index]}`);
    }
  }
}

/** The pixels of a file: upright, transparent ones on white, colour profiles left aside. */
async function read(path, color) {
  const image = sharp(path, { ignoreIcc: true }).rotate().flatten({ background: "white" });
  const { data, info } = await image
    .toColourspace("srgb")
    .raw()
    .toBuffer({ resolveWithObject: true });
  return pictureOf(data, info.width, info.height, color);
}

try {
  await main();
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
