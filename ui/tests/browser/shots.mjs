// Screenshots of every page and dialog, for human eyes: `npm run shots -- FOLDER`.
import { mkdirSync } from "node:fs";
import { id, launch, move, open, openMoved, serve } from "./browser.mjs";

const folder = process.argv[2] ?? "shots";
const only = process.argv[3] && new RegExp(process.argv[3]);
mkdirSync(folder, { recursive: true });
const site = await serve();
const browser = await launch();

const scenes = {
  keys: {},
  "keys-empty": { mock: "empty" },
  "keys-many": { mock: "many" },
  "keys-hostile": { mock: "hostile" },
  "keys-damaged": { mock: "registry-damaged" },
  "keys-locked": { mock: "keychain-locked" },
  "key-detail": {
    run: async (p) => (await p.click(`${id("key-row")} >> nth=1`), p.waitForSelector(id("secrets"))),
  },
  "key-rotating": {
    run: async (p) => {
      await p.click(id("filter-rotating"));
      await p.waitForTimeout(200);
      await p.click(`${id("key-row")} >> nth=0`);
      await p.waitForSelector(id("secrets"));
    },
  },
  "keys-disabled": { run: (p) => p.click(id("filter-disabled")) },
  "key-menu": { run: (p) => p.click(`${id("key-menu")} >> nth=2`) },
  issue: {
    run: async (p) => {
      await p.click(id("issue-key"));
      await p.fill(id("key-name"), "Billing service, production");
      await p.fill(id("key-scopes"), "invoices:read");
      await p.press(id("key-scopes"), "Enter");
      await p.fill(id("key-scopes"), "ledger:write");
    },
  },
  "key-disabled": {
    run: async (p) => (
      await p.click(`${id("key-state")}[data-state=disabled] >> nth=0`),
      await p.waitForSelector(id("secrets"))
    ),
  },
  "key-settings": {
    run: async (p) => {
      await p.fill(id("search-keys"), "Nightly export");
      await p.waitForTimeout(400);
      await p.click(`${id("key-row")} >> nth=1`);
      await p.waitForSelector(id("secrets"));
    },
  },
  "rotation-pending": {
    run: async (p) => {
      await issue(p);
      await p.click(id("stored-confirm"));
      await p.click(id("close-reveal"));
      await p.click(`${id("key-row")} >> nth=0`);
      await p.waitForSelector(id("secrets"));
      await p.click(id("rotate-key"));
      await p.click(id("rotate-submit"));
      await p.click(id("stored-confirm"));
      await p.click(id("close-reveal"));
      await p.waitForSelector(id("rotation-panel"));
    },
  },
  "rotation-step": {
    run: async (p) => {
      await p.click(id("filter-rotating"));
      await p.waitForTimeout(300);
      await p.click(`${id("key-row")} >> nth=0`);
      await p.click(id("rotation-cancel"));
    },
  },
  "rotate-drained": {
    run: async (p) => {
      await p.click(`${id("key-row")} >> nth=2`);
      await p.waitForSelector(id("secrets"));
      await p.click(id("rotate-key"));
      await p.click(id("rotate-clock-drained"));
    },
  },
  "rotate-compromised": {
    run: async (p) => {
      await p.click(`${id("key-row")} >> nth=2`);
      await p.waitForSelector(id("secrets"));
      await p.click(id("rotate-key"));
      await p.click(id("rotate-compromised"));
      await p.click(id("rotate-submit"));
    },
  },
  suspend: {
    run: async (p) => (
      await p.click(`${id("key-row")} >> nth=2`),
      await p.waitForSelector(id("secrets")),
      p.click(id("suspend-key"))
    ),
  },
  "issue-advanced": {
    run: async (p) => {
      await p.click(id("issue-key"));
      await p.click(id("key-advanced"));
      await p.fill(id("key-limit-count"), "x");
      await p.click(id("key-submit"));
      await p.locator(id("key-one-time")).scrollIntoViewIfNeeded();
    },
  },
  deliver: {
    run: async (p) => {
      await issue(p);
      await p.click(id("deliver-to"));
      await p.fill(id("deliver-path"), "/srv/app/.env");
      await p.click(id("deliver-add"));
      await p.selectOption(`${id("deliver-kind")} >> nth=1`, "command");
      await p.fill(id("deliver-program"), "/usr/bin/fail");
      await p.click(id("deliver-submit"));
      await p.waitForSelector(id("deliver-error"));
      await p.locator(id("deliver-error")).scrollIntoViewIfNeeded();
    },
  },
  "issue-errors": { run: async (p) => (await p.click(id("issue-key")), p.click(id("key-submit"))) },
  reveal: { run: issue },
  revealed: {
    run: async (p) => (await issue(p), await p.click(id("reveal-secret")), p.click(id("copy-secret"))),
  },
  "keys-error": {
    mock: "keywright",
    run: async (p) => {
      await p.click(id("registry-server-0"));
      await p.waitForSelector(id("key-row"));
      await p.evaluate(() =>
        window.mockHost.away({
          code: "reauth_required",
          message: "The provider ended this sign-in.",
          hint: "Sign in again to go on.",
          retryable: false,
        }),
      );
      await p.click(id("reload-keys"));
      await p.waitForSelector(id("keys-error"));
    },
  },
  "keys-error-filter": {
    run: async (p) => {
      await p.evaluate(() =>
        window.mockHost.away({
          code: "registry_offline",
          message: "The server does not answer.",
          hint: null,
          retryable: true,
        }),
      );
      await p.click(id("filter-revoked"));
      await p.waitForSelector(id("page-error"));
    },
  },
  "activity-error": {
    hash: "#/activity",
    run: async (p) => {
      await p.evaluate(() =>
        window.mockHost.away({
          code: "registry_offline",
          message: "The server does not answer.",
          hint: null,
          retryable: true,
        }),
      );
      await p.click(id("reload-activity"));
      await p.waitForSelector(id("activity-error"));
    },
  },
  closing: {
    run: async (p) => (
      await issue(p),
      await p.evaluate(() => window.mockHost.close()),
      p.waitForSelector(id("close-dialog"))
    ),
  },
  rotate: {
    run: async (p) => (
      await p.click(`${id("key-row")} >> nth=2`),
      await p.waitForSelector(id("secrets")),
      p.click(id("rotate-key"))
    ),
  },
  revoke: {
    run: async (p) => (
      await p.click(`${id("key-row")} >> nth=2`),
      await p.waitForSelector(id("secrets")),
      p.click(id("revoke-key"))
    ),
  },
  verify: {
    run: async (p) => {
      await issue(p);
      await p.click(id("reveal-secret"));
      const secret = await p.textContent(id("secret-text"));
      await p.click(id("stored-confirm"));
      await p.click(id("close-reveal"));
      await p.click(id("verify-key"));
      await p.fill(id("verify-input"), secret);
      await p.fill(id("verify-scope"), "payments:refund");
      await p.click(id("verify-submit"));
      await p.waitForSelector(id("verify-result"));
    },
  },
  "verify-asks": {
    mock: "waiting",
    run: async (p) => {
      await p.click(id("reveal-secret"));
      const secret = await p.textContent(id("secret-text"));
      await p.click(id("stored-confirm"));
      await p.click(id("close-reveal"));
      await p.click(id("verify-key"));
      await p.fill(id("verify-input"), secret);
      await p.click(id("verify-submit"));
      await p.waitForSelector(id("verify-asks"));
    },
  },
  palette: { run: (p) => p.keyboard.press("Control+k") },
  "palette-search": {
    run: async (p) => (
      await p.keyboard.press("Control+k"),
      await p.fill(id("palette-input"), "bill"),
      p.waitForTimeout(400)
    ),
  },
  shortcuts: { run: (p) => p.keyboard.press("?") },
  accounts: { hash: "#/accounts" },
  "accounts-empty": { hash: "#/accounts", mock: "empty" },
  notices: { hash: "#/notices" },
  "notices-unread": { hash: "#/notices", run: (p) => p.click(id("notices-unread")) },
  "notices-none-unread": {
    hash: "#/notices",
    run: async (p) => (await p.click(id("notices-read-all")), p.click(id("notices-unread"))),
  },
  "notices-empty": { hash: "#/notices", mock: "quiet" },
  "notices-first": { hash: "#/notices", mock: "empty" },
  "notices-hostile": { hash: "#/notices", mock: "hostile" },
  sessions: { hash: "#/sessions", mock: "keywright" },
  "sessions-none": { hash: "#/sessions" },
  "sign-in": { hash: "#/accounts", run: (p) => p.click(id("add-account")) },
  "sign-in-waiting": { hash: "#/accounts", run: (p) => signIn(p, "wait") },
  "sign-in-nobrowser": { hash: "#/accounts", run: (p) => signIn(p, "nobrowser") },
  "sign-in-error": {
    hash: "#/accounts",
    run: async (p) => (await signIn(p, "deny"), p.waitForSelector(id("sign-in-error"))),
  },
  "sign-out": { hash: "#/accounts", run: (p) => p.click(`${id("sign-out")} >> nth=0`) },
  "registry-device": { mock: "keywright" },
  "registry-empty": { mock: "empty" },
  "registry-server": { mock: "keywright", run: (p) => p.click(id("registry-server-0")) },
  "registry-reader": { mock: "keywright,reader", run: (p) => p.click(id("registry-server-0")) },
  "registry-auditor": {
    mock: "keywright,auditor",
    run: async (p) => (
      await p.click(id("registry-server-0")),
      await p.click(`${id("key-row")} >> nth=0`),
      await p.waitForSelector(id("not-allowed"))
    ),
  },
  "registry-stale": {
    mock: "keywright,stale",
    run: async (p) => (await p.click(id("registry-server-0")), p.waitForSelector(id("revocation-waiting"))),
  },
  "revocations-elsewhere": {
    mock: "keywright,stale,left",
    run: (p) => p.waitForSelector(id("revocations-signed-out")),
  },
  "sign-out-waiting": {
    mock: "keywright,stale",
    hash: "#/accounts",
    run: async (p) => (
      await p.click(`${id("sign-out")} >> nth=0`),
      await p.waitForSelector(id("sign-out-waiting"))
    ),
  },
  "pepper-missing": { mock: "pepper-missing" },
  "new-pepper": {
    mock: "pepper-missing",
    run: async (p) => (await p.click(id("new-pepper")), p.waitForSelector(id("pepper-understood"))),
  },
  "vault-pepper-away": {
    mock: "no-keychain,pepper-away",
    run: async (p) => (await p.click(id("create-vault")), p.waitForSelector(id("vault-understood"))),
  },
  promote: { mock: "keywright", run: (p) => p.click(id("promote-keys")) },
  "promote-checked": {
    mock: "keywright",
    run: async (p) => {
      await p.click(id("promote-keys"));
      await p.click(id("promote-check"));
      await p.waitForSelector(id("promote-preview"));
    },
  },
  "promote-done": { mock: "keywright", run: move },
  "promote-both-places": { mock: "keywright,both-places", run: move },
  "promote-stopped": { mock: "keywright,stops,both-places", run: move },
  "key-moved": {
    mock: "keywright",
    run: openMoved,
  },
  "key-moved-end": {
    mock: "keywright",
    run: async (p) => (await openMoved(p), p.click(id("revoke-key"))),
  },
  activity: { hash: "#/activity" },
  "activity-open": { hash: "#/activity", run: (p) => p.click(`${id("activity-row")} >> nth=1 >> button`) },
  flows: { hash: "#/flows", mock: "traces" },
  "flows-relying-party": { hash: "#/flows/relying-party", run: (p) => step(p, 5) },
  "flows-refresh": { hash: "#/flows/refresh-token", run: (p) => step(p, 2) },
  "flows-rotation": {
    hash: "#/flows/key-rotation",
    run: (p) => p.locator(id("flow-see-also")).scrollIntoViewIfNeeded(),
  },
  "flows-happened": { hash: "#/flows", mock: "traces", run: (p) => p.click(id("mode-happened")) },
  "flows-state": { hash: "#/flows", mock: "traces", run: (p) => happened(p, "1") },
  "flows-denied": { hash: "#/flows", mock: "traces", run: (p) => happened(p, "2") },
  "flows-pkce": { hash: "#/flows", mock: "traces", run: (p) => happened(p, "3") },
  "flows-reuse": { hash: "#/flows/refresh-token", mock: "traces", run: (p) => happened(p, "11") },
  settings: { hash: "#/settings" },
  "settings-end": {
    hash: "#/settings",
    mock: "keychain-locked",
    run: (p) => p.locator(id("first-paint")).scrollIntoViewIfNeeded(),
  },
  "vault-create": { mock: "no-keychain", run: (p) => p.click(id("create-vault")) },
  toast: {
    hash: "#/accounts",
    run: async (p) => (await p.click(`${id("refresh-account")} >> nth=0`), p.waitForSelector(id("toast"))),
  },
};

async function issue(page) {
  await page.click(id("issue-key"));
  await page.fill(id("key-name"), "Billing service, production");
  await page.fill(id("key-scopes"), "invoices:read");
  await page.press(id("key-scopes"), "Enter");
  await page.click(id("key-submit"));
  await page.waitForSelector(id("reveal-dialog"));
}
async function step(page, times) {
  for (let n = 0; n < times; n++) await page.click(id("flow-next"));
}
async function happened(page, trace) {
  await page.click(id("mode-happened"));
  await page.selectOption(id("flow-traces"), trace);
}
async function signIn(page, client) {
  await page.click(id("add-account"));
  await page.fill(id("issuer"), "https://login.example.com");
  await page.fill(id("client-id"), client);
  await page.click(id("sign-in-submit"));
  await page.waitForSelector(id("sign-in-countdown"));
}

const looks = [
  { suffix: "light", theme: "light" },
  { suffix: "dark", theme: "dark" },
  { suffix: "small", theme: "light", width: 960, height: 640 },
];
try {
  for (const [name, scene] of Object.entries(scenes)) {
    if (only && !only.test(name)) continue;
    for (const { suffix, ...look } of looks) {
      const page = await open(browser, site.url, { ...scene, ...look });
      try {
        await scene.run?.(page);
      } catch (error) {
        console.error(`${name} ${suffix}: ${error.message.split("\n")[0]}`);
      }
      await page.waitForTimeout(450);
      await page.screenshot({ path: `${folder}/${name}-${suffix}.png` });
      if (page.problems.length) console.error(name, suffix, page.problems);
      await page.context().close();
    }
  }
} finally {
  await browser.close();
  await site.close();
}
