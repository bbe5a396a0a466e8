// The life of a key: issued, shown once, verified, rotated, revoked.
import { id } from "./browser.mjs";
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
  equal(await verifyKey(page, secret, "payments:refund"), "insufficient_scope");
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
  await page.waitForSelector(id("overlap-countdown"));
  equal(await page.locator(id("secret-row")).count(), 2, "secrets");
  equal(
    await page.textContent(id("retires-in")).then((text) => /^(59:\d\d|60:00|1 h 0 min)$/.test(text.trim())),
    true,
    "countdown",
  );
  equal(await verifyKey(page, first), "valid", "old secret in the overlap");
  equal(await verifyKey(page, second), "valid", "new secret");
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
