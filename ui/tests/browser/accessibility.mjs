// axe on every page and dialog, light and dark, with zero violations.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { id, move, openMoved } from "./browser.mjs";
import { assert, test } from "./harness.mjs";
import { issueKey, openKey, startSignIn, takeSecret } from "./steps.mjs";

const source = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

async function check(page) {
  await page.evaluate(source);
  const violations = await page.evaluate(async () => {
    const tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
    const result = await globalThis.axe.run(document, { runOnly: tags });
    return result.violations.map(
      (v) => `${v.id}: ${v.nodes.map((n) => `${n.target} ${n.any[0]?.message ?? ""}`).join(" | ")}`,
    );
  });
  assert(violations.length === 0, violations.join("\n"));
}

const happened = async (page, trace) => {
  await page.click(id("mode-happened"));
  await page.selectOption(id("flow-traces"), trace);
};

const scenes = {
  "API keys": {},
  "API keys, none": { mock: "empty" },
  "API keys, registry damaged": { mock: "registry-damaged" },
  "API keys, keychain locked": { mock: "keychain-locked" },
  "API keys, hostile names": { mock: "hostile" },
  "API keys, no match": {
    run: async (page) => {
      await page.fill(id("search-keys"), "no such key");
      await page.waitForSelector(id("keys-no-match"));
    },
  },
  "a key": { run: (page) => openKey(page, 1) },
  "a rotating key": {
    run: async (page) => {
      await page.click(id("filter-rotating"));
      await page.waitForSelector(`${id("key-state")}[data-state=rotating]`);
      await openKey(page);
    },
  },
  "a disabled key": { run: (page) => page.click(`${id("key-state")}[data-state=disabled] >> nth=0`) },
  "a key with every setting": {
    run: async (page) => {
      await page.fill(id("search-keys"), "Nightly export");
      await page.click('[data-key-name="Nightly export"] [data-testid="key-row-name"]');
      await page.waitForSelector(id("detail-networks"));
    },
  },
  "rotation, cancel asked": {
    run: async (page) => {
      await page.click(id("filter-rotating"));
      await page.waitForSelector(`${id("key-state")}[data-state=rotating]`);
      await openKey(page);
      await page.click(id("rotation-cancel"));
    },
  },
  "rotate dialog, compromised": {
    run: async (page) => {
      await openKey(page, 0);
      await page.click(id("rotate-key"));
      await page.click(id("rotate-clock-drained"));
      await page.click(id("rotate-compromised"));
      await page.click(id("rotate-submit"));
    },
  },
  "disable dialog": {
    run: async (page) => (await openKey(page, 0), page.click(id("suspend-key"))),
  },
  "issue dialog, advanced": {
    run: async (page) => (await page.click(id("issue-key")), page.click(id("key-advanced"))),
  },
  "delivery, refused": {
    run: async (page) => {
      await issueKey(page);
      await page.click(id("deliver-to"));
      await page.click(id("deliver-add"));
      await page.selectOption(`${id("deliver-kind")} >> nth=1`, "command");
      await page.click(id("deliver-submit"));
      await page.waitForSelector(id("deliver-error"));
    },
  },
  "actions of a key": {
    run: async (page) => (
      await page.click(`${id("key-menu")} >> nth=1`),
      page.waitForSelector(id("key-actions"))
    ),
  },
  "issue dialog": { run: (page) => page.click(id("issue-key")) },
  "issue dialog, refused": {
    run: async (page) => (await page.click(id("issue-key")), page.click(id("key-submit"))),
  },
  "show-once dialog": { run: issueKey },
  "show-once dialog, shown and copied": {
    run: async (page) => {
      await issueKey(page);
      await page.click(id("reveal-secret"));
      await page.click(id("copy-secret"));
      await page.waitForSelector(id("clipboard-countdown"));
    },
  },
  "rotate dialog": { run: async (page) => (await openKey(page), page.click(id("rotate-key"))) },
  "revoke dialog": { run: async (page) => (await openKey(page), page.click(id("revoke-key"))) },
  "verify dialog": {
    run: async (page) => {
      await issueKey(page);
      const secret = await takeSecret(page);
      await page.click(id("verify-key"));
      await page.fill(id("verify-input"), secret);
      await page.fill(id("verify-scope"), "payments:refund");
      await page.click(id("verify-submit"));
      await page.waitForSelector(id("verify-result"));
    },
  },
  "verify dialog, a question": {
    mock: "waiting",
    run: async (page) => {
      const secret = await takeSecret(page);
      await page.click(id("verify-key"));
      await page.fill(id("verify-input"), secret);
      await page.click(id("verify-submit"));
      await page.waitForSelector(id("verify-asks"));
    },
  },
  "closing, a question": {
    mock: "waiting",
    run: async (page) => {
      await page.waitForSelector(id("reveal-dialog"));
      await page.evaluate(() => window.mockHost.close());
      await page.waitForSelector(id("close-dialog"));
    },
  },
  "keys, not reloaded": {
    run: async (page) => {
      const away = { code: "registry_offline", message: "Away.", hint: "Try again.", retryable: true };
      await page.evaluate((problem) => window.mockHost.away(problem), away);
      await page.click(id("reload-keys"));
      await page.waitForSelector(id("keys-error"));
    },
  },
  "move dialog, stopped": { mock: "keywright,stops,both-places", run: move },
  palette: {
    run: async (page) => (await page.keyboard.press("Control+k"), page.fill(id("palette-input"), "s")),
  },
  "shortcut list": {
    run: async (page) => (await page.keyboard.press("?"), page.waitForSelector(id("shortcuts-dialog"))),
  },
  Accounts: { hash: "#/accounts" },
  "Accounts, none": { hash: "#/accounts", mock: "empty" },
  "Accounts, details and message": {
    hash: "#/accounts",
    run: async (page) => {
      await page.click(`${id("account-card")} summary >> nth=0`);
      await page.click(`${id("refresh-account")} >> nth=0`);
      await page.waitForSelector(id("toast"));
    },
  },
  "sign-in dialog": {
    hash: "#/accounts",
    run: async (page) => (await page.click(id("add-account")), page.click(id("sign-in-advanced"))),
  },
  "keys of a server": { mock: "keywright", run: (page) => page.click(id("registry-server-0")) },
  "keys of a server, read only": {
    mock: "keywright,reader",
    run: (page) => page.click(id("registry-server-0")),
  },
  "keys of a server, away": {
    mock: "keywright,stale",
    run: async (page) => (
      await page.click(id("registry-server-0")),
      page.waitForSelector(id("revocation-waiting"))
    ),
  },
  "move dialog": { mock: "keywright", run: (page) => page.click(id("promote-keys")) },
  "move dialog, checked": {
    mock: "keywright",
    run: async (page) => {
      await page.click(id("promote-keys"));
      await page.click(id("promote-check"));
      await page.waitForSelector(id("promote-preview"));
    },
  },
  "move dialog, done": { mock: "keywright", run: move },
  "move dialog, live in both places": { mock: "keywright,both-places", run: move },
  "a moved key": {
    mock: "keywright",
    run: openMoved,
  },
  Notices: { hash: "#/notices" },
  "Notices, none": { hash: "#/notices", mock: "quiet" },
  "Notices, hostile": { hash: "#/notices", mock: "hostile" },
  Sessions: { hash: "#/sessions", mock: "keywright" },
  "Sessions, no account": { hash: "#/sessions" },
  "Sessions, offline": { hash: "#/sessions", mock: "keywright,offline" },
  "end-session dialog": {
    hash: "#/sessions",
    mock: "keywright",
    run: (page) => page.click(`${id("end-session")} >> nth=1`),
  },
  "sign-in, waiting": { hash: "#/accounts", run: (page) => startSignIn(page, "wait") },
  "sign-in, no browser": { hash: "#/accounts", run: (page) => startSignIn(page, "nobrowser") },
  "sign-in, declined": {
    hash: "#/accounts",
    run: async (page) => (await startSignIn(page, "deny"), page.waitForSelector(id("sign-in-error"))),
  },
  "sign-out dialog": { hash: "#/accounts", run: (page) => page.click(`${id("sign-out")} >> nth=0`) },
  Activity: { hash: "#/activity", run: (page) => page.click(`${id("activity-row")} >> nth=1 >> button`) },
  "Activity, none": { hash: "#/activity", mock: "empty" },
  Flows: { hash: "#/flows" },
  "Flows, a step further": { hash: "#/flows/relying-party", run: (page) => page.click(id("flow-next")) },
  "Flows, what happened": { hash: "#/flows", mock: "traces", run: (page) => page.click(id("mode-happened")) },
  "Flows, an answer that was ignored": {
    hash: "#/flows",
    mock: "traces",
    run: (page) => happened(page, "1"),
  },
  "Flows, declined": { hash: "#/flows", mock: "traces", run: (page) => happened(page, "2") },
  Settings: { hash: "#/settings" },
  "vault dialog, making": { mock: "no-keychain", run: (page) => page.click(id("create-vault")) },
  "vault dialog, unlocking": {
    mock: "vault-locked",
    hash: "#/settings",
    run: (page) => page.click(id("unlock-vault")),
  },
  "Settings, keychain locked": { hash: "#/settings", mock: "keychain-locked" },
};

for (const theme of ["light", "dark"]) {
  for (const [name, { run, ...options }] of Object.entries(scenes)) {
    test(`axe: ${name}, ${theme}`, async (open) => {
      const page = await open({ ...options, theme, freeze: false });
      assert((await page.getAttribute("html", "data-theme")) === theme, "the theme follows the desktop");
      await run?.(page);
      await page.waitForTimeout(60);
      await check(page);
    });
  }
}
