// The life of a key: issued, shown once, verified, rotated, revoked.
import { id, move } from "./browser.mjs";
import { assert, equal, test, until } from "./harness.mjs";
import { issueKey, openKey, takeSecret, verifyKey } from "./steps.mjs";

const state = (page) => page.getAttribute(id("detail-state"), "data-state");

test("a key is issued, shown once and verified", async (open) => {
  const page = await open();
  await issueKey(page, { name: "New one" });
  equal(await page.locator(id("secret-text")).count(), 0, "secrets on screen before the reveal");
  const secret = await takeSecret(page);
  assert(/^sk_live_[0-9A-Za-z]{12}KYWRT1[0-9A-Za-z]{38}$/.test(secret), `the shape of ${secret}`);
  assert(!(await page.content()).includes(secret), "the secret left the document with its dialog");
  await until(
    async () => (await page.textContent(`${id("key-row-name")} >> nth=0`)) === "New one",
    "the new key is on top",
  );
  equal(await verifyKey(page, secret), "valid");
  equal(await verifyKey(page, secret, { scope: "payments:refund" }), "insufficient_scope");
  equal(await verifyKey(page, secret, { scope: "payments:refund or (invoices:read)" }), "valid");
  equal(await verifyKey(page, "nonsense"), "malformed");
});

test("the show-once dialog stays until the key is copied or confirmed", async (open) => {
  const page = await open();
  await issueKey(page);
  await page.keyboard.press("Escape");
  await page.waitForSelector(id("reveal-nudge"));
  await page.mouse.click(5, 5);
  await page.click(id("close-reveal"), { force: true });
  assert(await page.isVisible(id("reveal-dialog")), "still open");
  await page.click(id("copy-dot_env"));
  await page.waitForSelector(id("clipboard-countdown"));
  await page.click(id("close-reveal"));
  await page.waitForSelector(id("reveal-dialog"), { state: "detached" });
});

test("disabled keys have a filter and a number", async (open) => {
  const page = await open();
  const number = () => page.textContent(`${id("filter-disabled")} span >> nth=0`);
  equal(await number(), "1", "disabled keys");
  await page.click(id("filter-disabled"));
  await until(async () => (await page.locator(id("key-row")).count()) === 1, "one row");
  equal(await page.getAttribute(id("key-state"), "data-state"), "disabled");
  await page.click(id("key-row"));
  await page.click(id("suspend-key"));
  await page.click(id("suspend-submit"));
  await until(async () => (await number()) === "0", "none is left");
});

test("a move that stops tells what moved, and goes on with the rest", async (open) => {
  const page = await open({ mock: "keywright,stops,both-places" });
  await move(page);
  const stopped = await page.textContent(id("promote-stopped"));
  equal(await page.locator(`${id("promote-in-both-places")} li`).count(), 2, "keys in both places");
  equal(await page.getAttribute(id("promote-problem"), "data-error-code"), "registry_offline");
  await page.click(id("promote-go-on"));
  await until(
    async () => (await page.locator(`${id("promote-in-both-places")} li`).count()) === 4,
    "what was told before stays",
  );
  assert((await page.textContent(id("promote-stopped"))) !== stopped, "fewer are left");
});

const AWAY = {
  code: "registry_offline",
  message: "The server does not answer.",
  hint: null,
  retryable: true,
};

test("a list that cannot be asked again says so above its rows", async (open) => {
  const page = await open({ mock: "keywright" });
  const away = (problem) => page.evaluate((it) => window.mockHost.away(it), problem);
  await page.click(id("registry-server-0"));
  await page.waitForSelector(id("key-row"));
  await away(AWAY);
  await page.click(id("reload-keys"));
  await page.waitForSelector(`${id("keys-error")}[data-error-code=registry_offline]`);
  assert((await page.locator(id("key-row")).count()) > 5, "the rows stay");
  await page.click(id("filter-revoked"));
  await page.waitForSelector(`${id("page-error")}[data-error-code=registry_offline]`);
  equal(await page.locator(id("key-row")).count(), 0, "live keys under “Revoked”");
  await away(null);
  await page.click(id("filter-all"));
  await page.waitForSelector(id("key-row"));
  equal(await page.locator(id("keys-error")).count(), 0, "errors that are over");
  await away({ ...AWAY, code: "reauth_required", message: "The sign-in has ended." });
  await page.click(id("nav-activity"));
  await page.click(id("nav-keys"));
  await page.click(id("registry-sign-in-again"));
  await page.waitForSelector(id("sign-in-dialog"));
});

test("an activity that cannot be asked again says so above its rows", async (open) => {
  const page = await open({ hash: "#/activity" });
  const away = (problem) => page.evaluate((it) => window.mockHost.away(it), problem);
  await away(AWAY);
  await page.click(id("reload-activity"));
  await page.waitForSelector(`${id("activity-error")}[data-error-code=registry_offline]`);
  assert((await page.locator(id("activity-row")).count()) > 5, "the rows stay");
  await away(null);
  await page.click(id("activity-retry"));
  await page.waitForSelector(id("activity-error"), { state: "detached" });
});

test("a move that is under way is not left", async (open) => {
  const page = await open({ mock: "keywright,slow" });
  await page.click(id("promote-keys"));
  await page.waitForSelector(id("promote-key"));
  await page.click(id("promote-check"));
  await page.click(id("promote-submit"));
  equal(await page.isDisabled(id("promote-close")), true, "Cancel while moving");
  await page.keyboard.press("Escape");
  await page.waitForSelector(id("promote-done"));
});

test("closing the window asks while a new key was not copied", async (open) => {
  const page = await open();
  const close = () => page.evaluate(() => window.mockHost.close());
  const closed = () => page.evaluate(() => document.documentElement.dataset.closed === "true");
  await issueKey(page);
  await close();
  await page.waitForSelector(id("close-dialog"));
  assert(await page.isVisible(id("reveal-dialog")), "the secret stays on the screen under the question");
  await page.keyboard.press("Escape");
  await page.waitForSelector(id("close-dialog"), { state: "detached" });
  equal(await page.locator(id("reveal-nudge")).count(), 0, "the key went to the question alone");
  await until(
    () => page.evaluate(() => document.activeElement?.closest('[data-testid="reveal-dialog"]') !== null),
    "the focus is back",
  );
  await close();
  await page.click(id("keep-open"));
  equal(await closed(), false, "kept open");
  await page.click(id("reveal-secret"));
  await page.click(id("stored-confirm"));
  await close();
  await until(closed, "stored by the person's word: it closes unasked");
});

test("the window is not loaded anew by a key or a menu", async (open) => {
  const page = await open({ hash: "#/activity" });
  const prevented = await page.evaluate(() => {
    const asked = (target, event) => !target.dispatchEvent(event);
    const menu = () => new MouseEvent("contextmenu", { bubbles: true, cancelable: true });
    const key = (init) => new KeyboardEvent("keydown", { ...init, bubbles: true, cancelable: true });
    return {
      heading: asked(document.querySelector("h1"), menu()),
      field: asked(document.querySelector("input[type=search], input[type=text]"), menu()),
      f5: asked(document.body, key({ key: "F5" })),
      r: asked(document.body, key({ key: "r", ctrlKey: true })),
      hard: asked(document.body, key({ key: "R", ctrlKey: true, shiftKey: true })),
    };
  });
  equal(prevented, { heading: true, field: false, f5: true, r: true, hard: true });
});

test("a window that was loaded anew all the same shows the secret that waits", async (open) => {
  const page = await open({ mock: "waiting" });
  await page.waitForSelector(id("reveal-dialog"));
  await page.click(id("reveal-secret"));
  await page.waitForSelector(id("secret-text"));
});

test("a key is rotated with an overlap, then at once", async (open) => {
  const page = await open();
  await issueKey(page, { name: "Turning" });
  const first = await takeSecret(page);
  await openKey(page);
  await page.click(id("rotate-key"));
  await page.click(id("rotate-overlap-1h"));
  await page.click(id("rotate-submit"));
  const second = await takeSecret(page);
  assert(first !== second, "a new secret");
  await until(async () => (await state(page)) === "rotating", "the detail says rotating");
  equal(await page.locator(id("secret-row")).count(), 2, "secrets");
  equal(await page.getAttribute(id("rotation-panel"), "data-state"), "pending", "nobody used the new one");
  equal(await page.locator(id("overlap-countdown")).count(), 0, "countdowns before the first use");
  equal(await verifyKey(page, first), "valid", "old secret before the overlap");
  // Looking at the new secret is its first use: it is asked about, and nothing has happened until then.
  await page.click(id("verify-key"));
  await page.fill(id("verify-input"), second);
  await page.click(id("verify-submit"));
  await page.waitForSelector(`${id("verify-asks")}[data-error-code=verification_is_first_use]`);
  await page.click(id("dialog-close"));
  equal(await page.getAttribute(id("rotation-panel"), "data-state"), "pending", "asked, and not used");
  equal(await verifyKey(page, second, { knowing: true }), "valid", "new secret");
  await openKey(page, 1);
  await openKey(page);
  await page.waitForSelector(id("overlap-countdown"));
  equal(await page.getAttribute(id("rotation-panel"), "data-state"), "overlapping", "the clock runs");
  equal(
    await page.textContent(id("retires-in")).then((text) => /^(59:\d\d|60:00|1 h 0 min)$/.test(text.trim())),
    true,
    "countdown",
  );
  equal(await verifyKey(page, first), "valid", "old secret in the overlap");
  await page.click(id("rotate-key"));
  await page.click(id("rotate-overlap-0"));
  await page.click(id("rotate-submit"));
  await takeSecret(page);
  await until(async () => (await state(page)) === "active", "no overlap left");
  equal(await verifyKey(page, second), "retired", "old secret without an overlap");
});

test("a key is revoked with a reason, after what will break was shown", async (open) => {
  const page = await open();
  await issueKey(page, { name: "Doomed" });
  const secret = await takeSecret(page);
  await openKey(page);
  await page.click(id("revoke-key"));
  await page.waitForSelector(id("revoke-impact"));
  await page.fill(id("revoke-reason"), "x".repeat(501));
  await page.waitForSelector(id("field-error"));
  await page.fill(id("revoke-reason"), "It leaked");
  await page.click(id("revoke-submit"));
  await until(async () => (await state(page)) === "revoked", "the detail says revoked");
  equal(await page.isDisabled(id("rotate-key")), true, "rotate is off");
  assert((await page.textContent(id("key-detail"))).includes("It leaked"), "the reason is kept");
  equal(await verifyKey(page, secret), "revoked");
});

test("wrong values are answered beside their fields", async (open) => {
  const page = await open();
  await page.click(id("issue-key"));
  await page.click(id("key-submit"));
  equal(await page.locator(id("field-error")).count(), 2, "name and scopes are missing");
  await page.click(id("key-prefix-custom"));
  await page.fill(id("key-prefix-own"), "_bad_");
  equal(await page.locator(id("field-error")).count(), 3, "and the prefix is wrong");
  await page.fill(id("key-name"), "refuse me");
  await page.fill(id("key-prefix-own"), "acme_live");
  await page.fill(id("key-scopes"), "ledger:write");
  await page.press(id("key-scopes"), "Enter"); // defines it
  await page.click(id("key-expiry-custom"));
  await page.fill(id("key-expiry-days"), "400");
  await page.click(id("key-submit"));
  equal(await page.isVisible(id("form-error")), false, "nothing was sent");
  await page.fill(id("key-expiry-days"), "12");
  await page.click(id("key-submit"));
  equal(
    await page.getAttribute(id("form-error"), "data-error-code"),
    "policy_violation",
    "the registry's own refusal",
  );
});

test("publishable keys take low-risk scopes only; never-expiring keys need the setting", async (open) => {
  const page = await open();
  await page.click(id("issue-key"));
  await page.click(id("key-prefix-pk_live"));
  equal(await page.getAttribute('[data-scope="invoices:write"]', "aria-disabled"), "true", "a risky scope");
  equal(await page.getAttribute('[data-scope="catalog:read"]', "aria-disabled"), "false", "a harmless scope");
  equal(await page.locator(id("key-expiry-never")).count(), 0, "never");
  const allowed = await open({ mock: "never" });
  await allowed.click(id("issue-key"));
  await allowed.click(id("key-expiry-never"));
});

test("filters, search and order come from the registry", async (open) => {
  const page = await open();
  await page.click(id("filter-revoked"));
  await until(async () => {
    const states = await page
      .locator(id("key-state"))
      .evaluateAll((all) => all.map((one) => one.dataset.state));
    return states.length > 0 && states.every((one) => one === "revoked");
  }, "only revoked keys");
  await page.click(id("filter-all"));
  await page.fill(id("search-keys"), "grafana");
  await until(async () => (await page.locator(id("key-row-name")).count()) === 1, "one match");
  await page.fill(id("search-keys"), "zzz");
  await page.waitForSelector(id("keys-no-match"));
  await page.click(`${id("keys-no-match")} button`);
  await page.waitForSelector(id("key-row"));
  await page.click(id("sort-name"));
  const names = () => page.locator(id("key-row-name")).allTextContents();
  await until(async () => {
    const all = await names();
    return (
      all.length > 5 &&
      all.join() === [...all].sort((a, b) => (a.toLowerCase() < b.toLowerCase() ? -1 : 1)).join()
    );
  }, "names in order");
  equal(
    await page.getAttribute('[role=columnheader]:has([data-testid="sort-name"])', "aria-sort"),
    "ascending",
  );
  await page.click(id("sort-name"));
  equal(
    await page.getAttribute('[role=columnheader]:has([data-testid="sort-name"])', "aria-sort"),
    "descending",
  );
});

test("the row menu rotates and revokes without opening the key", async (open) => {
  const page = await open();
  await page.click(`${id("key-menu")} >> nth=0`);
  await page.click(id("menu-revoke"));
  await page.click(id("revoke-submit"));
  await until(
    async () => (await page.getAttribute(`${id("key-state")} >> nth=0`, "data-state")) === "revoked",
    "revoked",
  );
  await page.click(`${id("key-menu")} >> nth=0`);
  assert(
    (await page.getAttribute(id("menu-rotate"), "aria-disabled")) === "true",
    "a revoked key cannot be rotated",
  );
});

test("an unknown key says so and leads back", async (open) => {
  const page = await open({ hash: "#/keys/nope" });
  await page.waitForSelector('[data-error-code="api_key_not_found"]');
  await page.click(id("detail-close"));
  equal(new URL(page.url()).hash, "#/keys");
});

test("a rotation is cancelled, rolled back or finished, each after a question", async (open) => {
  const page = await open();
  await issueKey(page, { name: "Undone" });
  const first = await takeSecret(page);
  await openKey(page);
  const rotate = async () => {
    await page.click(id("rotate-key"));
    await page.click(id("rotate-submit"));
    return takeSecret(page);
  };
  const step = async (name) => {
    await page.click(id(`rotation-${name}`));
    await page.click(id("step-submit"));
    await page.waitForSelector(id("rotation-panel"), { state: "detached" });
  };
  const use = async (secret) => {
    equal(await verifyKey(page, secret, { knowing: true }), "valid");
    await openKey(page, 1);
    await openKey(page);
  };
  await rotate();
  await step("cancel");
  equal(await verifyKey(page, first), "valid", "old secret after the cancellation");
  const second = await rotate();
  await use(second);
  await step("roll_back");
  equal(await verifyKey(page, second), "aborted", "new secret after the roll-back");
  await use(await rotate());
  await step("finish");
  equal(await verifyKey(page, first), "retired", "old secret after the end");
});

test("the rotate dialog says what the clock does, and wants a reason for a compromise", async (open) => {
  const page = await open();
  await issueKey(page, { name: "Leaky" });
  const first = await takeSecret(page);
  await openKey(page);
  await page.click(id("rotate-key"));
  const says = () => page.textContent(`${id("overlap-diagram")} figcaption`);
  assert((await says()).includes("24 hours after the new one is first used"), "from the first use");
  await page.click(id("rotate-clock-issue"));
  assert((await says()).includes("works for 24 hours, until"), "from now");
  await page.click(id("rotate-clock-drained"));
  assert((await says()).includes("until nobody has used it for 24 hours, at most 7 days"), "until silent");
  await page.fill(id("rotate-silent"), "500");
  await page.waitForSelector(id("field-error"));
  await page.click(id("rotate-compromised"));
  assert((await says()).includes("stops at once"), "a compromise");
  await page.click(id("rotate-submit"));
  await page.waitForSelector(id("field-error"));
  await page.fill(id("rotate-reason"), "In a log file");
  await page.click(id("rotate-submit"));
  await takeSecret(page);
  equal(await verifyKey(page, first), "revoked", "the known secret");
});

test("a key is disabled with a reason, and enabled again", async (open) => {
  const page = await open();
  await issueKey(page, { name: "Paused" });
  const secret = await takeSecret(page);
  await openKey(page);
  await page.click(id("suspend-key"));
  await page.fill(id("suspend-reason"), "Audit");
  await page.click(id("suspend-submit"));
  await until(async () => (await state(page)) === "disabled", "the detail says disabled");
  await until(async () => (await page.textContent(id("disabled-note"))).includes("Audit"), "the reason");
  equal(await page.isDisabled(id("rotate-key")), true, "rotate is off");
  equal(await verifyKey(page, secret), "disabled");
  await page.click(`${id("key-menu")} >> nth=0`);
  await page.click(id("menu-suspend"));
  await page.click(id("suspend-submit"));
  await until(async () => (await state(page)) === "active", "active again");
  equal(await verifyKey(page, secret), "valid");
});

test("advanced settings are sent, shown, and refused at their fields", async (open) => {
  const page = await open();
  await page.click(id("issue-key"));
  equal(await page.isVisible(id("key-networks")), false, "closed by default");
  await page.click(id("key-advanced"));
  await page.fill(id("key-name"), "Fenced");
  await page.fill(id("key-scopes"), "invoices:read");
  await page.press(id("key-scopes"), "Enter");
  await page.fill(id("key-environment"), "staging");
  await page.fill(id("key-tags"), "billing, team:core");
  await page.fill(id("key-note"), "For the nightly run");
  await page.fill(id("key-networks"), "somewhere");
  await page.fill(id("key-origins"), "https://app.example.org");
  await page.fill(id("key-limit-count"), "many");
  await page.fill(id("key-limit-burst"), "10");
  await page.fill(id("key-credits"), "500");
  await page.click(id("key-submit"));
  equal(await page.locator(id("field-error")).count(), 1, "the limit is no number");
  await page.fill(id("key-limit-count"), "60");
  await page.click(id("key-submit"));
  await page.waitForSelector(`:has(> ${id("key-networks")}) ${id("field-error")}`);
  equal(await page.isVisible(id("form-error")), false, "said at the field only");
  await page.fill(id("key-networks"), "192.0.2.0/24\n2001:db8::/48");
  await page.click(id("key-submit"));
  await page.waitForSelector(id("reveal-dialog"));
  await takeSecret(page);
  await openKey(page);
  for (const [part, text] of [
    ["environment", "staging"],
    ["limits", "60 in 1 minute, 10 more at once"],
    ["credits", "500"],
    ["networks", "2001:db8::/48"],
    ["origins", "https://app.example.org"],
    ["tags", "team:core"],
    ["note", "For the nightly run"],
  ])
    assert((await page.textContent(id(`detail-${part}`))).includes(text), part);
  equal(await page.locator(id("detail-owner")).count(), 0, "rows that say nothing");
});

test("a secret is delivered, and a failed delivery takes the rotation back", async (open) => {
  const page = await open();
  await issueKey(page, { name: "Carried" });
  await page.click(id("deliver-to"));
  equal(await page.inputValue(id("deliver-variable")), "SK_LIVE_KEY", "the variable");
  await page.click(id("deliver-submit"));
  equal(await page.getAttribute(id("deliver-error"), "data-error-code"), "invalid_target", "no path");
  await page.fill(id("deliver-path"), "/srv/app/.env");
  await page.click(id("deliver-add"));
  await page.selectOption(`${id("deliver-kind")} >> nth=1`, "command");
  await page.fill(id("deliver-program"), "/usr/bin/pass");
  await page.click(id("deliver-submit"));
  await until(async () => (await page.locator(id("deliver-outcome")).count()) === 2, "two outcomes");
  const outcomes = () =>
    page.locator(id("deliver-outcome")).evaluateAll((all) => all.map((one) => one.dataset.state));
  equal(await outcomes(), ["delivered", "delivered"]);
  await page.click(id("close-reveal")); // delivered is stored
  await page.waitForSelector(id("reveal-dialog"), { state: "detached" });

  await openKey(page);
  await page.click(id("rotate-key"));
  await page.click(id("rotate-submit"));
  await page.click(id("deliver-to"));
  await page.fill(id("deliver-path"), "/srv/fail/.env");
  await page.click(id("deliver-submit"));
  await page.waitForSelector(`${id("deliver-error")}[data-error-code=hook_failed]`);
  equal(await outcomes(), ["failed"]);
  await page.waitForSelector(id("secret-dead"));
  equal(await page.isDisabled(id("copy-secret")), true, "nothing to copy");
  await page.click(id("close-reveal"));
  await until(async () => (await state(page)) === "active", "the old secret goes on");
});
