// Chromium and axe, for the scripts that look at the server's pages.
import { mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';

const axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

// `pin`: the one certificate of a test, by its key; every other is checked as always.
export const launch = (pin) => chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/lib/chromium/chromium',
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage',
    '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ...(pin ? [`--ignore-certificate-errors-spki-list=${pin}`] : [])],
});

// A page in light and dark under axe; what it finds, by page. `shots`: a folder for pictures.
export async function examine(name, page, found, shots) {
  for (const scheme of ['light', 'dark']) {
    // Without motion: a colour on its way is not a colour to measure.
    await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
    await page.evaluate(axe);
    const report = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
    for (const one of report.violations) {
      found.push(`${name} (${scheme}): ${one.id}: ${one.nodes.map((node) => node.target).join(' ')}`);
    }
    if (shots) {
      await mkdir(shots, { recursive: true });
      await page.screenshot({ path: `${shots}/${name}-${scheme}.png`, fullPage: true });
    }
  }
}

// How many pixels a page is wider than its window.
export const tooWide = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
