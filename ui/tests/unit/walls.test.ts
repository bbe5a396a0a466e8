// What must never appear in the source, and that the mock host answers every command there is.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

const root = join(import.meta.dirname, "../../src");
const files = readdirSync(root, { recursive: true, encoding: "utf8" })
  .filter((name) => /\.(ts|svelte|css)$/.test(name))
  .map((name) => ({ name: name.replaceAll("\\", "/"), text: readFileSync(join(root, name), "utf8") }));
const having = (pattern: RegExp, except: RegExp = /^$/) =>
  files.filter(({ name, text }) => !except.test(name) && pattern.test(text)).map(({ name }) => name);

describe("walls", () => {
  it("only the host speaks to Tauri", () => {
    expect(having(/@tauri-apps\//, /^lib\/bindings\.ts$|^mock\//)).toEqual([]);
    expect(having(/from ".*\/bindings"/)).toEqual(["lib/host.ts"]);
  });
  it("no raw markup, no evaluation, no storage, no remote address", () => {
    expect(having(/\{@html|innerHTML|\beval\(|new Function/)).toEqual([]);
    expect(having(/localStorage|sessionStorage|indexedDB|document\.cookie/)).toEqual([]);
    expect(having(/https?:\/\/(?!127\.0\.0\.1|login\.example\.com)/, /^mock\/|^lib\/bindings\.ts$/)).toEqual([
      "pages/accounts/SignInForm.svelte", // "must begin with https://"
    ]);
  });
  it("colours come from the tokens", () => {
    expect(having(/#[0-9a-f]{6}\b|rgba?\(/i, /^styles\/tokens\.css$|^mock\//)).toEqual([]);
  });
  it("files stay readable", () => {
    const long = files.filter(
      ({ name, text }) => name !== "lib/bindings.ts" && text.split("\n").length > 500,
    );
    expect(long.map(({ name }) => name)).toEqual([]);
  });
  it("the mock host answers every command", () => {
    const bindings = readFileSync(join(root, "lib/bindings.ts"), "utf8");
    const mock = readFileSync(join(root, "mock/install.ts"), "utf8");
    const commands = [...bindings.matchAll(/__TAURI_INVOKE(?:<[^(]*>)?\("(\w+)"/g)].map(([, name]) => name);
    expect(commands.length).toBeGreaterThanOrEqual(28);
    expect(commands.filter((name) => !new RegExp(`^    ${name}:`, "m").test(mock))).toEqual([]);
  });
});
