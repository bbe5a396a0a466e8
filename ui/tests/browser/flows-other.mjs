// Accounts, activity, settings, banners, palette and theme.
import { id } from "./browser.mjs";
import { assert, equal, test, until } from "./harness.mjs";
import { startSignIn } from "./steps.mjs";

const cards = (page) => page.locator(id("account-card")).count();

test("a sign-in walks through its steps and adds the account", async (open) => {
  const page = await open({ hash: "#/accounts", mock: "empty" });
  // A step may be over before anybody looks.
  await page.evaluate(() => {
    window.steps = [];
    const look = () =>
      window.steps.push(document.querySelector('[data-testid="sign-in-step"]')?.dataset.step);
    const what = { subtree: true, childList: true, attributes: true, attributeFilter: ["data-step"] };
    new MutationObserver(look).observe(document.body, what);
  });
  await startSignIn(page, "desktop");
  await page.waitForSelector(`${id("account-card")}[data-status=signed_in]`);
  assert(await page.evaluate(() => window.steps.includes("exchanging")), "the exchange is shown");
  equal(await page.textContent(id("account-name")), "Grace Hopper");
});

test("a sign-in can be cancelled, declined, tried again and left", async (open) => {
  const page = await open({ hash: "#/accounts" });
  await startSignIn(page, "wait");
  await page.click(id("reopen-browser"));
  await page.click(id("copy-sign-in-link"));
  await page.click(id("sign-in-cancel"));
  await page.waitForSelector(id("sign-in-cancelled"));
  await page.fill(id("client-id"), "deny");
  await page.click(id("sign-in-submit"));
  await page.waitForSelector(`${id("sign-in-error")}[data-error-code=access_denied]`);
  await page.click(id("sign-in-retry"));
  await page.waitForSelector(id("sign-in-countdown"));
  await page.waitForSelector(`${id("sign-in-error")}[data-error-code=access_denied]`);
  await page.click(id("sign-in-back"));
  await page.fill(id("client-id"), "wait");
  await page.click(id("sign-in-submit"));
  await page.waitForSelector(id("sign-in-countdown"));
  await page.keyboard.press("Escape");
  await page.click(id("sign-in-leave-confirm"));
  await page.waitForSelector(id("sign-in-dialog"), { state: "detached" });
  equal(await cards(page), 3, "accounts");
});

test("without a browser the link is copied and the answer pasted", async (open) => {
  const page = await open({ hash: "#/accounts" });
  await startSignIn(page, "nobrowser");
  await page.waitForSelector(id("browser-error"));
  await page.fill(id("pasted-url"), "https://elsewhere.example/");
  await page.click(id("finish-sign-in"));
  await page.waitForSelector(`${id("sign-in-aside-error")}[data-error-code=callback_malformed]`);
  await page.fill(id("pasted-url"), "http://127.0.0.1:5000/callback?code=x&state=y");
  await page.click(id("finish-sign-in"));
  await until(async () => (await cards(page)) === 4, "a fourth account");
});

test("signing in again asks for the same person and needs no new form", async (open) => {
  const page = await open({ hash: "#/accounts" });
  await page.click(`${id("account-card")}[data-account-id=acc_3] ${id("sign-in-again")}`);
  equal(await page.locator(id("provider-google")).count(), 0, "providers to choose from");
  await page.click(id("sign-in-submit"));
  await page.waitForSelector(`${id("account-card")}[data-account-id=acc_3][data-status=signed_in]`);
  equal(await cards(page), 3, "accounts");
});

test("signing out tells whether the provider ended access", async (open) => {
  const page = await open({ hash: "#/accounts" });
  const out = async (account) => {
    await page.click(`${id("account-card")}[data-account-id=${account}] ${id("sign-out")}`);
    await page.click(id("sign-out-confirm"));
    await page.waitForSelector(`${id("account-card")}[data-account-id=${account}]`, { state: "detached" });
  };
  await out("acc_1");
  await page.waitForSelector(`${id("toast")}:has-text("confirmed that access ended")`);
  await out("acc_2");
  await page.waitForSelector(`${id("toast")}:has-text("did not confirm")`);
});

test("accounts say what is missing, unsaved or wrong", async (open) => {
  const page = await open({ hash: "#/accounts" });
  const github = page.locator(`${id("account-card")}[data-account-id=acc_2]`);
  assert((await github.locator(id("missing-scopes")).textContent()).includes("user:email"), "missing scopes");
  await github.locator(id("session-only")).waitFor();
  const work = page.locator(`${id("account-card")}[data-account-id=acc_3]`);
  assert((await work.locator(id("clock-offset")).textContent()).includes("9 minutes behind"), "the clock");
  equal(await work.locator(id("account-reason")).getAttribute("data-error-code"), "reauth_required");
});

test("a refresh that cannot reach the provider loses nothing", async (open) => {
  const page = await open({ hash: "#/accounts", mock: "offline" });
  await page.click(`${id("account-card")}[data-account-id=acc_1] ${id("refresh-account")}`);
  await page.waitForSelector(`${id("toast")}[data-tone=error]`);
  await page.waitForSelector(`${id("account-card")}[data-account-id=acc_1][data-status=offline]`);
});

test("activity is grouped by day, searched, filtered and opened", async (open) => {
  const page = await open({ hash: "#/activity" });
  // The mock's newest event is some minutes old: soon after midnight it was yesterday.
  const [at] = (await page.textContent(`${id("activity-row")} >> nth=0`)).match(/\b\d\d:\d\d\b/);
  const now = new Date().toTimeString().slice(0, 5);
  equal(await page.textContent("main h2 >> nth=0"), at > now ? "Yesterday" : "Today");
  await page.click(`${id("activity-row")} >> nth=0 >> button`);
  await page.waitForSelector(id("activity-details"));
  await page.click(id("subject-accounts"));
  await until(async () => {
    const actions = await page
      .locator(id("activity-row"))
      .evaluateAll((all) => all.map((row) => row.dataset.action));
    return actions.length > 0 && actions.every((action) => action.startsWith("account."));
  }, "accounts only");
  await page.fill(id("search-activity"), "declined");
  await until(async () => {
    const actions = await page
      .locator(id("activity-row"))
      .evaluateAll((all) => all.map((row) => row.dataset.action));
    return actions.length > 0 && actions.every((action) => action === "account.sign_in_failed");
  }, "failures only");
});

test("settings are saved, and wrong values are answered beside the field", async (open) => {
  const page = await open({ hash: "#/settings" });
  await page.fill(id("setting-clipboard"), "4");
  await page.press(id("setting-clipboard"), "Enter");
  await page.waitForSelector(`${id("setting-clipboard-error")}:has-text("5 to 300")`);
  await page.fill(id("setting-clipboard"), "12");
  await page.press(id("setting-clipboard"), "Enter");
  await page.waitForSelector(`${id("setting-clipboard-saved")}:has-text("Saved")`);
  await page.fill(id("setting-ca"), "/missing.pem");
  await page.press(id("setting-ca"), "Tab");
  await page.waitForSelector(`${id("setting-ca-error")}:has-text("cannot be read")`);
  await page.click(id("setting-allow-never"));
  await page.click(id("setting-overlap-604800000"));
  await page.click(id("nav-keys"));
  await page.click(id("nav-settings"));
  equal(await page.inputValue(id("setting-clipboard")), "12", "kept");
  await page.click(id("nav-keys"));
  await page.click(`${id("key-menu")} >> nth=0`);
  await page.click(id("menu-rotate"));
  equal(await page.isChecked(`${id("rotate-overlap-7d")} input`), true, "the usual overlap is preselected");
});

test("the theme is chosen, shown at once and kept by the settings", async (open) => {
  const page = await open();
  await page.click(id("theme-dark"));
  equal(await page.getAttribute("html", "data-theme"), "dark");
  await page.click(id("nav-settings"));
  equal(await page.isChecked(`${id("setting-theme-dark")} input`), true, "settings agree");
  await page.click(id("setting-theme-light"));
  await until(async () => (await page.getAttribute("html", "data-theme")) === "light", "light again");
});

test("a damaged registry is said once, and healed without a restart", async (open) => {
  const page = await open({ mock: "registry-damaged" });
  equal(await page.getAttribute(id("page-error"), "data-error-code"), "registry_damaged");
  await page.waitForSelector(id("registry-banner"));
  await page.evaluate(() => window.mockHost.registry(null));
  await page.click(id("registry-retry"));
  await page.waitForSelector(id("key-row"));
  equal(await page.locator(id("registry-banner")).count(), 0, "banners");
});

test("a locked keychain is said, helped and checked again", async (open) => {
  const page = await open({ mock: "keychain-locked" });
  await page.waitForSelector(`${id("keychain-banner")}[data-error-code=keychain_locked]`);
  equal(await page.getAttribute(id("keychain-chip"), "data-state"), "keychain_locked");
  await page.evaluate(() => window.mockHost.keychain(null));
  await page.click(id("keychain-retry"));
  await page.waitForSelector(id("keychain-banner"), { state: "detached" });
});

test("without a keychain an encrypted file is made, locked and unlocked, by choice", async (open) => {
  const page = await open({ mock: "no-keychain" });
  await page.click(id("create-vault"));
  await page.fill(id("vault-passphrase"), "short");
  await page.fill(id("vault-passphrase-again"), "other");
  await page.click(id("vault-submit"));
  await page.waitForSelector(id("field-error"));
  await page.fill(id("vault-passphrase-again"), "short");
  await page.click(id("vault-submit"));
  await page.waitForSelector(`${id("vault-error")}[data-error-code=vault_passphrase_too_short]`);
  await page.fill(id("vault-passphrase"), "several easy words");
  await page.fill(id("vault-passphrase-again"), "several easy words");
  await page.click(id("vault-submit"));
  await page.waitForSelector(id("keychain-banner"), { state: "detached" });
  await page.click(id("nav-settings"));
  await page.click(id("lock-vault"));
  await page.waitForSelector(`${id("keychain-banner")}[data-error-code=vault_locked]`);
  await page.click(id("keychain-retry"));
  await page.fill(id("vault-passphrase"), "wrong words here");
  await page.click(id("vault-submit"));
  await page.waitForSelector(`${id("vault-error")}[data-error-code=vault_wrong_passphrase]`);
  await page.fill(id("vault-passphrase"), "several easy words");
  await page.click(id("vault-submit"));
  await page.waitForSelector(`${id("keychain-chip")}:has-text("Encrypted file open")`);
});

test("the palette finds pages, actions, keys and accounts, most used first", async (open) => {
  const page = await open();
  const run = async (text) => {
    await page.keyboard.press("Control+k");
    await page.fill(id("palette-input"), text);
    await page.waitForSelector(`${id("palette-item")}:has-text("${text}")`);
    await page.waitForTimeout(250);
    await page.keyboard.press("Enter");
  };
  await run("settings");
  await page.waitForSelector(id("settings"));
  await run("grafana");
  await page.waitForSelector(`${id("detail-name")}:has-text("Grafana")`);
  await run("ada (work)");
  await page.waitForSelector(id("account-card"));
  await run("verify a");
  await page.waitForSelector(id("verify-dialog"));
  await page.keyboard.press("Escape");
  await page.keyboard.press("Control+k");
  equal(await page.getAttribute(`${id("palette-item")} >> nth=0`, "data-entry"), "verify", "first entry");
});

test("a notice arrives, is counted, leads to its key, and all are marked as read", async (open) => {
  const page = await open();
  const unread = () => page.textContent(id("unread-notices"));
  const before = parseInt(await unread().then((text) => text.replace(/\D/g, "")));
  await page.evaluate(() => window.mockHost.notice());
  await until(async () => (await unread()).includes(String(before + 1)), "one more is counted");
  await page.click(id("nav-notices"));
  await page.waitForSelector(`${id("notice-row")} >> nth=0`);
  equal(await page.getAttribute(`${id("notice-row")} >> nth=0`, "data-kind"), "canary_used", "newest first");
  await page.click(`${id("notice-key")} >> nth=0`);
  await page.waitForSelector(id("key-detail"));
  await until(async () => (await unread()).includes(String(before)), "opening its key reads it");
  await page.click(id("nav-notices"));
  await page.click(id("notices-read-all"));
  await until(async () => !(await page.isVisible(id("unread-notices"))), "nothing is unread");
  equal(await page.locator(id("notice-read")).count(), 0, "nothing is left to mark");
});

test("no notices: the place leads on", async (open) => {
  const page = await open({ hash: "#/notices", mock: "quiet" });
  await page.click(id("notices-expiring"));
  await page.waitForSelector(`${id("sort-expires")}`);
  const first = await open({ hash: "#/notices", mock: "empty" });
  await first.click(id("notices-issue"));
  await first.waitForSelector(id("issue-dialog"));
});

test("AC-158: what a role does not allow is not offered", async (open) => {
  const page = await open({ mock: "keywright,auditor" });
  await page.click(id("registry-server-0"));
  await until(async () => !(await page.isVisible(id("issue-key"))), "no key can be issued");
  equal(await page.locator(id("verify-key")).count(), 0, "nor verified");
  await page.keyboard.press("n");
  equal(await page.locator(id("issue-dialog")).count(), 0, "nor by its shortcut");
  await page.click(`${id("key-row")} >> nth=0`);
  await page.waitForSelector(id("not-allowed"));
  assert(await page.isDisabled(id("revoke-key")), "a key of somebody else is not revoked");
  await page.click(`${id("key-menu")} >> nth=0`);
  await page.waitForSelector(`${id("menu-revoke")}[data-disabled]`);
  await page.keyboard.press("Escape");
  await page.click(id("registry-device"));
  await page.waitForSelector(id("issue-key"));
});
