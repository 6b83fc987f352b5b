// Opens docs/embedding/classify.html in Chromium for tests/test_embedding_js.py:
//
//     node page.mjs CHROMIUM ADDRESS PICTURE BUNDLE[:CLASS]...
//
// and prints as JSON what the page then shows of each bundle: its error, the classes, and the drawn
// pixels as PNG.

import { chromium } from "playwright-core";

const [executablePath, address, picture, ...bundles] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
try {
  const page = await browser.newPage();
  const found = [];
  for (const [bundle, label] of bundles.map((asked) => asked.split(":"))) {
    await page.goto(`${address}?bundle=${bundle}`);
    await page.setInputFiles("#picture", picture);
    await page.waitForFunction(
      () => document.querySelector("#top li") || !document.querySelector("#error").hidden,
    );
    if (label) await page.selectOption("#class", { label });
    found.push(
      await page.evaluate(() => ({
        error: document.querySelector("#error").textContent,
        about: document.querySelector("#about").textContent,
        rows: [...document.querySelectorAll("#top label")].map((row) => [
          row.childNodes[1].textContent,
          row.querySelector("output").textContent,
        ]),
        hasLegend: !document.querySelector("#legend").hidden,
        drawn: document.querySelector("#canvas").toDataURL("image/png"),
      })),
    );
  }
  process.stdout.write(JSON.stringify(found));
} finally {
  await browser.close();
}
