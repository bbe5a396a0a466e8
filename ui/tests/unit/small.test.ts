import { describe, expect, it } from "vitest";
import { isKeychainProblem, isRegistryProblem, toErrorView } from "../../src/lib/errors";
import { hashOf, parseHash } from "../../src/lib/router.svelte";
import { prefixProblem } from "../../src/pages/keys/prefixes";

describe("routes", () => {
  it("survive a round trip", () => {
    for (const id of ["key_1", "a/b?c#d", "ü"])
      expect(parseHash(hashOf("keys", id))).toEqual({ page: "keys", id });
  });
  it("lead to the keys when unknown or broken", () => {
    for (const hash of ["", "#", "#/nope", "#keys/../x"]) expect(parseHash(hash).page).toBe("keys");
    expect(parseHash("#/keys/%E0%A4%A")).toEqual({ page: "keys", id: null });
  });
});

describe("errors", () => {
  it("keep the host's code, and call anything else internal", () => {
    const error = { code: "keychain_locked", message: "m", hint: null, retryable: true };
    expect(toErrorView(error)).toEqual(error);
    for (const odd of [new Error("secret detail"), "text", null, undefined, 7]) {
      expect(toErrorView(odd).code).toBe("internal");
      expect(JSON.stringify(toErrorView(odd))).not.toContain("secret detail");
    }
  });
  it("are sorted by what they concern", () => {
    const of = (code: string) => ({ code, message: "", hint: null, retryable: false });
    expect(isKeychainProblem(of("pepper_missing"))).toBe(true);
    expect(isKeychainProblem(of("registry_locked"))).toBe(false);
    expect(isRegistryProblem(of("schema_too_new"))).toBe(true);
    expect(isRegistryProblem(null)).toBe(false);
  });
});

describe("own prefixes", () => {
  it("follow the registry's shape", () => {
    for (const good of ["acme_live", "a1", "A__b", "abcdefghijklmnop"])
      expect(prefixProblem(good)).toBeNull();
    for (const bad of ["", "a", "_a", "a_", "1ab", "a-b", "abcdefghijklmnopq", "ä_live"])
      expect(prefixProblem(bad)).not.toBeNull();
  });
});
