// `npm run test:browser [-- NAME]`: the interface in real Chromium, on the mock host, under the app's own
// content policy and with a frozen prototype, as in the app.
import "./accessibility.mjs";
import "./flows-keys.mjs";
import "./flows-other.mjs";
import "./keyboard.mjs";
import "./limits.mjs";
import { launch, open, serve } from "./browser.mjs";
import { runAll } from "./harness.mjs";

const site = await serve();
const browser = await launch();
let count;
try {
  count = await runAll({ open: (options) => open(browser, site.url, options) }, process.argv[2]);
} finally {
  await browser.close();
  await site.close();
}
console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
process.exitCode = count.failed > 0 || count.passed === 0 ? 1 : 0;
