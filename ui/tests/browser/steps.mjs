// What a person does, in words the tests share.
import { id } from "./browser.mjs";

export async function issueKey(page, { name = "Billing service, production", scope = "invoices:read" } = {}) {
  await page.click(id("issue-key"));
  await page.fill(id("key-name"), name);
  await page.fill(id("key-scopes"), scope);
  await page.press(id("key-scopes"), "Enter");
  await page.click(id("key-submit"));
  await page.waitForSelector(id("reveal-dialog"));
}

/** Reveals, reads and closes; gives the whole key. */
export async function takeSecret(page) {
  await page.click(id("reveal-secret"));
  const secret = await page.textContent(id("secret-text"));
  await page.click(id("stored-confirm"));
  await page.click(id("close-reveal"));
  await page.waitForSelector(id("reveal-dialog"), { state: "detached" });
  return secret;
}

/** `knowing`: a check that does more than tell is asked for all the same. */
export async function verifyKey(page, secret, { scope = "", knowing = false } = {}) {
  await page.click(id("verify-key"));
  await page.fill(id("verify-input"), secret);
  if (scope) await page.fill(id("verify-scope"), scope);
  await page.click(id("verify-submit"));
  if (knowing) await page.click(id("verify-knowing"));
  await page.waitForSelector(id("verify-result"));
  const code = await page.textContent(id("verify-code"));
  await page.click(id("dialog-close"));
  return code;
}

export async function startSignIn(page, client) {
  await page.click(id("add-account"));
  await page.fill(id("issuer"), "https://login.example.com");
  await page.fill(id("client-id"), client);
  await page.click(id("sign-in-submit"));
  await page.waitForSelector(id("sign-in-countdown"));
}

export const openKey = async (page, index = 0) => {
  await page.click(`${id("key-row-name")} >> nth=${index}`);
  await page.waitForSelector(id("secrets"));
};
