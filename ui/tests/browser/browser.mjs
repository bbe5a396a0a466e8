// Builds the interface with the mock host, serves it, and opens Debian's Chromium on it.
import { chromium } from "playwright-core";
import { fileURLToPath } from "node:url";
import { build, preview } from "vite";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** The app's own policy; only `connect-src` differs, for there is no host to speak to. */
export const POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
  "font-src 'self'; connect-src 'none'; base-uri 'none'; form-action 'none'; object-src 'none'";

export async function serve() {
  await build({ root, mode: "mock", logLevel: "error" });
  const server = await preview({
    root,
    mode: "mock",
    logLevel: "error",
    build: { outDir: "dist-mock" },
    preview: { host: "127.0.0.1", port: 0, headers: { "Content-Security-Policy": POLICY } },
  });
  const { port } = server.httpServer.address();
  return { url: `http://127.0.0.1:${port}/`, close: () => server.close() };
}

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

/** A fresh page on a scenario of the mock host. What goes wrong in it is collected in `page.problems`. */
export async function open(
  browser,
  base,
  { mock = "", hash = "#/keys", theme = "light", width = 1280, height = 800, freeze = true } = {},
) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: theme,
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  page.setDefaultTimeout(5000);
  page.problems = [];
  page.on("pageerror", (error) => page.problems.push(`page error: ${error.message}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) page.problems.push(`console: ${message.text()}`);
  });
  // The app freezes the prototype (`freezePrototype`), which breaks careless libraries.
  if (freeze) await page.addInitScript(() => Object.freeze(Object.prototype));
  await page.goto(`${base}?mock=${mock}${hash}`);
  await page.waitForSelector("html[data-ready=true]", { timeout: 15000 });
  return page;
}

/** Moves the keys of this device to a server, in the dialog. */
export async function move(page) {
  await page.click(id("promote-keys"));
  await page.click(id("promote-check"));
  await page.click(id("promote-submit"));
  await page.waitForSelector(id("promote-done"));
}

/** Moves them and opens the first one. */
export async function openMoved(page) {
  await move(page);
  await page.click(id("promote-close"));
  await page.click(`${id("key-row")} >> nth=0`);
  await page.waitForSelector(id("moved-note"));
}

export const id = (name) => `[data-testid="${name}"]`;
