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
  Notices: { hash: "#/notices" },
  Sessions: { hash: "#/sessions", mock: "keywright" },
  Activity: { hash: "#/activity" },
  Flows: { hash: "#/flows" },
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
    for (const nav of [
      "nav-keys",
      "nav-notices",
      "nav-accounts",
      "nav-sessions",
      "nav-activity",
      "nav-flows",
      "nav-settings",
    ])
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
  await press(page, "Control+7");
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
  await press(page, "g", "f");
  await until(() => hash() === "#/flows", "g f");
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

test("keyboard: a key that is live in both places is read, and its copy is not counted as ended", async (open) => {
  const page = await open({ mock: "keywright,both-places" });
  await tabTo(page, "promote-keys");
  await press(page, "Enter");
  await page.waitForSelector(id("promote-dialog"));
  await tabTo(page, "promote-check");
  await press(page, "Enter");
  await page.waitForSelector(id("promote-preview"));
  equal(await page.locator(id("promote-in-both-places")).count(), 0, "nothing is in both places yet");
  await tabTo(page, "promote-submit");
  await press(page, "Enter");
  await page.waitForSelector(id("promote-done"));
  const told = page.locator(`${id("promote-in-both-places")} li`);
  equal(await told.count(), 2, "keys that are live in both places");
  equal(await told.first().getAttribute("data-error-code"), "key_revoked");
  assert((await told.first().textContent()).includes("the server still accepts it"), "what is wrong is told");
  assert(await page.isVisible("text=revoke at the server what was revoked here"), "what to do is told");
  // None of them is among the copies that are still to be ended.
  const moved = Number(await page.getAttribute(id("promote-moved"), "data-count"));
  assert((await page.textContent(id("promote-end-copies"))).includes(String(moved)), "copies of what moved");
  await tabTo(page, "promote-close");
  await press(page, "Enter");
  await page.waitForSelector(id("promote-dialog"), { state: "detached" });
  await until(async () => (await focused(page)) === "promote-keys", "the focus is back where it was");
});

test("keyboard: a flow is stepped through, and played", async (open) => {
  const page = await open({ hash: "#/flows", mock: "traces" });
  const position = () => page.textContent(id("flow-position"));
  const current = () =>
    page.evaluate(() => document.activeElement.closest("[data-step]")?.dataset.step ?? null);
  await tabTo(page, "flow-relying-party");
  await press(page, "Enter");
  await until(
    async () => (await page.textContent(id("flow-title"))).includes("another provider"),
    "the flow",
  );
  await tabTo(page, "flow-next");
  await press(page, "Enter", "Enter");
  assert((await position()).startsWith("Step 3 of 10"), await position());
  await tabTo(page, "flow-previous", { key: "Shift+Tab" });
  await press(page, "Enter");
  assert((await position()).startsWith("Step 2 of 10"), await position());
  await tabTo(page, "flow-step");
  equal(await current(), "2", "the current step is the one stop of the list");
  await press(page, "ArrowDown");
  await until(async () => (await current()) === "3", "one further");
  await press(page, "End");
  await until(async () => (await current()) === "10", "the last step");
  await press(page, "ArrowDown");
  await until(async () => (await current()) === "10", "no further");
  await press(page, "Home", "ArrowRight", "ArrowLeft");
  await until(async () => (await current()) === "1", "back");
  equal(await page.locator(id("flow-detail")).count(), 1, "one step tells its details");
  await tabTo(page, "flow-play", { key: "Shift+Tab" });
  await press(page, "Enter");
  await until(async () => (await position()).startsWith("Step 2 of 10"), "it plays");
  equal(await page.getAttribute(id("flow-play"), "aria-label"), "Pause");
  await press(page, "Enter");
  const stopped = await position();
  await page.waitForTimeout(2000);
  equal(await position(), stopped, "it stays where it was paused");
});

test("ac_195 keyboard: what happened is replayed, and the step that failed is marked", async (open) => {
  const page = await open({ hash: "#/flows", mock: "traces" });
  const marks = () =>
    page.locator(id("flow-step")).evaluateAll((steps) => steps.map((step) => step.dataset.mark));
  const detail = () => page.textContent(id("flow-detail"));
  await tabTo(page, "mode-explained");
  await press(page, "ArrowRight");
  await page.waitForSelector(id("flow-trace"));
  equal(await marks(), Array(8).fill("done"), "a sign-in that went well");
  // Sign-ins of AC-005, AC-008 and AC-051, newest first.
  const expected = [
    ["1", 5, "missed", 3, "ignored"],
    ["2", 4, "failed", 3, "with the right"],
    ["3", 6, "failed", 5, "burned"],
  ];
  await tabTo(page, "flow-traces");
  for (const [trace, step, mark, at, words] of expected) {
    await press(page, "ArrowDown");
    await until(async () => (await page.inputValue(id("flow-traces"))) === trace, `sign-in ${trace}`);
    if (mark === "failed") {
      await until(async () => (await marks())[step - 1] === mark, `${mark} at ${step}`);
      equal((await marks()).slice(step), Array(8 - step).fill("none"), "nothing came after it");
    } else {
      equal(await marks(), Array(8).fill("done"), "it succeeded in the end");
      // Back to the answer that was ignored: then the steps after it had not been done.
      await tabTo(page, "flow-step");
      await press(page, "Home");
      for (let n = 0; n < at; n++) await press(page, "ArrowDown");
      await until(async () => (await marks())[step - 1] === mark, `${mark} at ${step}`);
      equal((await marks())[3], "none", "the person had not answered then");
    }
    assert((await detail()).includes(words), await detail());
    await tabTo(page, "flow-traces", { key: "Shift+Tab" });
  }
  // AC-085.
  await tabTo(page, "flow-refresh-token", { key: "Shift+Tab" });
  await press(page, "Enter");
  await until(async () => (await page.textContent(id("flow-title"))) === "Refresh token", "the other flow");
  await tabTo(page, "flow-traces");
  await press(page, "ArrowDown");
  await until(async () => (await marks())[2] === "failed", "the rotation failed");
  equal(await marks(), ["done", "done", "failed", "none"]);
  assert((await detail()).includes("whole family"), await detail());
});
