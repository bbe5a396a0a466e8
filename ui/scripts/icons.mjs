// Draws icons/icon.svg in every size the bundles need: `npm run icons` (Debian's Chromium does the drawing).
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { launch } from "../tests/browser/browser.mjs";

const folder = fileURLToPath(new URL("../../icons/", import.meta.url));
const svg = readFileSync(`${folder}icon.svg`, "utf8");
const browser = await launch();

async function png(size) {
  const page = await browser.newPage({ viewport: { width: size, height: size }, deviceScaleFactor: 1 });
  await page.setContent(
    `<style>*{margin:0}svg{display:block;width:${size}px;height:${size}px}</style>${svg}`,
  );
  const image = await page.screenshot({ omitBackground: true });
  await page.close();
  return image;
}

/** ICO: a directory of PNG images. */
function ico(images) {
  const head = Buffer.alloc(6 + 16 * images.length);
  head.writeUInt16LE(1, 2);
  head.writeUInt16LE(images.length, 4);
  let offset = head.length;
  images.forEach(([size, data], index) => {
    const at = 6 + 16 * index;
    head.writeUInt8(size === 256 ? 0 : size, at);
    head.writeUInt8(size === 256 ? 0 : size, at + 1);
    head.writeUInt16LE(1, at + 4);
    head.writeUInt16LE(32, at + 6);
    head.writeUInt32LE(data.length, at + 8);
    head.writeUInt32LE(offset, at + 12);
    offset += data.length;
  });
  return Buffer.concat([head, ...images.map(([, data]) => data)]);
}

/** ICNS: tagged PNG images. */
function icns(images) {
  const parts = images.map(([tag, data]) => {
    const head = Buffer.alloc(8);
    head.write(tag, 0, "ascii");
    head.writeUInt32BE(data.length + 8, 4);
    return Buffer.concat([head, data]);
  });
  const body = Buffer.concat(parts);
  const head = Buffer.alloc(8);
  head.write("icns", 0, "ascii");
  head.writeUInt32BE(body.length + 8, 4);
  return Buffer.concat([head, body]);
}

const at = {};
for (const size of [16, 24, 32, 48, 64, 128, 256, 512, 1024]) at[size] = await png(size);
await browser.close();

writeFileSync(`${folder}32x32.png`, at[32]);
writeFileSync(`${folder}128x128.png`, at[128]);
writeFileSync(`${folder}128x128@2x.png`, at[256]);
writeFileSync(`${folder}icon.png`, at[512]);
writeFileSync(`${folder}icon.ico`, ico([16, 24, 32, 48, 64, 256].map((size) => [size, at[size]])));
writeFileSync(
  `${folder}icon.icns`,
  icns([
    ["icp4", at[16]],
    ["icp5", at[32]],
    ["icp6", at[64]],
    ["ic07", at[128]],
    ["ic08", at[256]],
    ["ic09", at[512]],
    ["ic10", at[1024]],
  ]),
);
