// Everything without a mouse: each page, the main flows, and where the focus goes.
import { id } from "./browser.mjs";
import { assert, equal, test, until } from "./harness.mjs";

const focused = (page) =>
  page.evaluate(() => {
    const el = document.activeElement;
    return el?.dataset.testid ?? el?.closest("[data-testid]")?.dataset.testid ?? el?.tagName ?? null;
  });

/** Presses Tab until the element is reached; fails if it never is. */
async function tabTo(page, testid, { key = "Tab", max = 80 } = {}) {
  for (let i = 0; i < max; i++) {
    if ((await focused(page)) === testid) return;
    await page.keyboard.press(key);
  }
  throw new Error(`${testid} cannot be reached with ${key}; the focus is on ${await focused(page)}`);
}
const press = (page, ...keys) =>
  keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());
const type = (page, text) => page.keyboard.type(text);

for (const [name, options] of Object.entries({
  "API keys": {},
  "API keys, a server to choose": { mock: "keywright" },
  "a key": { hash: "#/keys/key_000003" },
  Accounts: { hash: "#/accounts" },
  Sessions: { hash: "#/sessions", mock: "keywright" },
  Activity: { hash: "#/activity" },
  Settings: { hash: "#/settings" },
})) {
  test(`keyboard: ${name} is walked through, with a visible focus and no trap`, async (open) => {
    const page = await open(options);
    await page.focus(id("skip-link"));
    const seen = new Set();
    let ended = false;
    for (let i = 0; i < 160 && !ended; i++) {
      const stop = await page.evaluate(() => {
        const el = document.activeElement;
        if (!el || el === document.body) return null;
        // Radios and switches draw the ring on their label or themselves.
        const ring = [el, el.closest("label"), el.parentElement].some(
          (one) =>
            one &&
            getComputedStyle(one).outlineStyle !== "none" &&
            parseFloat(getComputedStyle(one).outlineWidth) >= 2,
        );
        const box = el.getBoundingClientRect();
        el.dataset.walked ??= String(Math.random());
        return { key: el.dataset.walked, ring, seen: box.width > 0, what: el.outerHTML.slice(0, 120) };
      });
      if (!stop || seen.has(stop.key)) ended = true;
      else {
        assert(stop.ring, `no visible focus on ${stop.what}`);
        assert(stop.seen, `an invisible stop: ${stop.what}`);
        seen.add(stop.key);
      }
      await press(page, "Tab");
    }
    assert(ended, "the focus never came around");
    assert(seen.size >= 10, `only ${seen.size} stops`);
    for (const nav of ["nav-keys", "nav-accounts", "nav-sessions", "nav-activity", "nav-settings"])
      await tabTo(page, nav);
  });
}

test("keyboard: the skip link leads to the page's heading", async (open) => {
  const page = await open();
  await press(page, "Tab", "Enter");
  equal(await page.evaluate(() => document.activeElement.textContent.trim()), "API keys");
});

test("keyboard: a key is issued, revealed, copied, and the focus comes back", async (open) => {
  const page = await open();
  await tabTo(page, "issue-key");
  await press(page, "Enter");
  await until(async () => (await focused(page)) === "key-name", "the name has the focus");
  await type(page, "By keyboard");
  await press(page, "Tab", "ArrowRight");
  equal(await page.isChecked(`${id("key-prefix-sk_test")} input`), true, "arrows choose the prefix");
  await tabTo(page, "key-scopes");
  await type(page, "customers");
  await press(page, "ArrowDown", "Enter");
  await type(page, "ledger:post");
  await press(page, "Enter");
  await until(() => page.isVisible('[aria-label="Remove ledger:post"]'), "the new scope is chosen");
  await tabTo(page, "key-submit");
  await press(page, "Enter");
  await until(async () => (await focused(page)) === "reveal-secret", "Reveal has the focus");
  await press(page, "Enter");
  await page.waitForSelector(id("secret-text"));
  await tabTo(page, "copy-secret");
  await press(page, "Enter");
  await page.waitForSelector(id("clipboard-countdown"));
  await tabTo(page, "close-reveal");
  await press(page, "Enter");
  await until(async () => (await focused(page)) === "issue-key", "the focus is back");
});

test("keyboard: rows, the menu of a row, a key and its dialogs", async (open) => {
  const page = await open();
  const row = () => page.evaluate(() => document.activeElement?.dataset.index ?? null);
  await tabTo(page, "key-row");
  await press(page, "ArrowDown", "ArrowDown");
  await until(async () => (await row()) === "2", "third row");
  await press(page, "End");
  await until(async () => (await row()) === "47", "last row");
  await press(page, "Home");
  await until(async () => (await row()) === "0", "first row");
  await press(page, "Shift+F10");
  await page.waitForSelector(id("key-actions"));
  await press(page, "Escape");
  await until(async () => (await row()) === "0", "back on the row");
  await press(page, "ArrowDown");
  await until(async () => (await row()) === "1", "second row");
  await press(page, "Enter");
  await page.waitForSelector(id("secrets"));
  await tabTo(page, "revoke-key");
  await press(page, "Enter");
  await until(async () => (await focused(page)) === "revoke-reason", "the reason has the focus");
  await press(page, "Escape");
  await until(async () => (await focused(page)) === "revoke-key", "back on Revoke");
  assert(await page.isVisible(id("key-detail")), "Esc closed only the dialog");
  await press(page, "Escape");
  await until(async () => (await row()) === "1", "back on the row after the panel");
});

test("keyboard: an account is added and signed out", async (open) => {
  const page = await open({ hash: "#/accounts" });
  await tabTo(page, "add-account");
  await press(page, "Enter");
  await until(async () => (await focused(page)) === "provider-openid", "the providers have the focus");
  await press(page, "ArrowRight", "ArrowRight", "ArrowRight", "ArrowRight");
  equal(await page.isChecked(`${id("provider-gitlab")} input`), true, "arrows choose the provider");
  await tabTo(page, "client-id");
  await type(page, "desktop");
  await press(page, "Enter");
  await page.waitForSelector(id("sign-in-countdown"));
  await until(async () => (await page.locator(id("account-card")).count()) === 4, "a fourth account", 8000);
  await until(async () => (await focused(page)) === "add-account", "the focus is back");
  await tabTo(page, "sign-out");
  await press(page, "Enter");
  await until(async () => (await focused(page)) === "sign-out-confirm", "the question has the focus");
  await press(page, "Enter");
  await until(async () => (await page.locator(id("account-card")).count()) === 3, "signed out");
});

test("keyboard: a session is ended, and the safe answer has the focus", async (open) => {
  const page = await open({ hash: "#/sessions", mock: "keywright" });
  const rows = () => page.locator(id("session-row")).count();
  await page.waitForSelector(id("session-row"));
  await tabTo(page, "end-other-sessions");
  await press(page, "Enter");
  await page.waitForSelector(id("end-access-dialog"));
  await until(
    () => page.evaluate(() => document.activeElement?.textContent === "Keep"),
    "Keep has the focus",
  );
  await press(page, "Enter");
  await until(async () => (await focused(page)) === "end-other-sessions", "the focus is back");
  equal(await rows(), 3, "nothing was ended");
  await press(page, "Enter");
  await tabTo(page, "end-access-confirm");
  await press(page, "Enter");
  await until(async () => (await rows()) === 1, "only this device is left");
});

test("keyboard: activity is filtered and opened, settings are changed", async (open) => {
  const page = await open({ hash: "#/activity" });
  await tabTo(page, "subject-all");
  await press(page, "ArrowRight");
  equal(await page.isChecked(`${id("subject-api_keys")} input`), true, "arrows choose the subject");
  await tabTo(page, "activity-row");
  await press(page, "Enter");
  await page.waitForSelector(id("activity-details"));
  await press(page, "Control+5");
  await page.waitForSelector(id("settings"));
  await tabTo(page, "setting-theme-system");
  await press(page, "ArrowRight");
  await until(async () => (await page.getAttribute("html", "data-theme")) === "light", "light");
  await press(page, "ArrowRight");
  await until(async () => (await page.getAttribute("html", "data-theme")) === "dark", "dark");
  await tabTo(page, "setting-lifetime");
  await press(page, "Control+a");
  await type(page, "30");
  await press(page, "Enter");
  await page.waitForSelector(`${id("setting-lifetime-saved")}:has-text("Saved")`);
  await tabTo(page, "setting-allow-never");
  await press(page, "Space");
  equal(await page.isChecked(`${id("setting-allow-never")} input`), true);
});

test("keyboard: shortcuts work, and single keys can be switched off", async (open) => {
  const page = await open();
  const hash = () => new URL(page.url()).hash;
  await press(page, "g", "a");
  await until(() => hash() === "#/accounts", "g a");
  await press(page, "g", "y");
  await until(() => hash() === "#/activity", "g y");
  await press(page, "Control+1");
  await until(() => hash() === "#/keys", "Ctrl+1");
  await press(page, "/");
  await until(async () => (await focused(page)) === "search-keys", "the search has the focus");
  await type(page, "n?v");
  equal(await page.inputValue(id("search-keys")), "n?v", "letters in a field are letters");
  await press(page, "Escape");
  await page.evaluate(() => document.activeElement.blur());
  await press(page, "n");
  await page.waitForSelector(id("issue-dialog"));
  await press(page, "Escape");
  await page.waitForSelector(id("issue-dialog"), { state: "detached" });
  await press(page, "?");
  await page.waitForSelector(id("shortcuts-dialog"));
  await tabTo(page, "single-keys");
  await press(page, "Space", "Escape");
  await page.waitForSelector(id("shortcuts-dialog"), { state: "detached" });
  await press(page, "n");
  await page.waitForTimeout(150);
  equal(await page.locator(id("issue-dialog")).count(), 0, "dialogs after single keys are off");
});

test("keyboard: keys are moved to a server, and its registry is chosen", async (open) => {
  const page = await open({ mock: "keywright" });
  await tabTo(page, "promote-keys");
  await press(page, "Enter");
  await page.waitForSelector(id("promote-dialog"));
  await tabTo(page, "promote-key");
  await press(page, "Space");
  await tabTo(page, "promote-check");
  await press(page, "Enter");
  await page.waitForSelector(id("promote-preview"));
  await tabTo(page, "promote-submit");
  await press(page, "Enter");
  await page.waitForSelector(id("promote-done"));
  await tabTo(page, "promote-end-copies");
  await press(page, "Enter");
  await page.waitForSelector(id("copies-ended"));
  await tabTo(page, "promote-close");
  await press(page, "Enter");
  await page.waitForSelector(id("promote-dialog"), { state: "detached" });
  await until(async () => (await focused(page)) === "promote-keys", "the focus is back where it was");
  const states = page.locator(`${id("key-state")}[data-state=revoked]`);
  await until(async () => (await states.count()) > 3, "the copies are ended, not only counted");
  await tabTo(page, "registry-device", { key: "Shift+Tab" });
  await press(page, "ArrowRight");
  await page.waitForSelector(`${id("registry-switch")}:not([data-current=device])`);
});
