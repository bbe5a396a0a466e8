import { describe, expect, it } from "vitest";
import { count, harmless } from "../../src/lib/text";

describe("harmless", () => {
  it("leaves ordinary text of any script alone", () => {
    for (const text of ["Billing, production", "שלום עולם", "日本語 キー", "naïve 🔑"])
      expect(harmless(text)).toBe(text);
  });
  it("replaces control, reordering and invisible characters", () => {
    expect(harmless("a\u202eb\u0000c\u200bd\u2028e\u{e0041}f")).toBe("a\ufffdb\ufffdc\ufffdd\ufffde\ufffdf");
  });
  it("cuts by characters, not by halves of them", () => {
    expect(harmless("🔑".repeat(10), 3)).toBe("🔑🔑🔑…");
    expect(harmless("x".repeat(1_000_000), 5)).toBe("xxxxx…");
    expect(harmless("12345", 5)).toBe("12345");
  });
});

describe("count", () => {
  it("knows one from many and groups digits", () => {
    expect([count(1, "key"), count(0, "key"), count(100_000, "key")]).toEqual([
      "1 key",
      "0 keys",
      "100,000 keys",
    ]);
  });
});
