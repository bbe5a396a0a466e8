import { describe, expect, it } from "vitest";
import { bytes, DAY, dayTitle, HOUR, MINUTE, minutes, relative, remaining, span } from "../../src/lib/time";

const now = new Date(2026, 10, 21, 12, 0, 0).getTime();

describe("relative", () => {
  it.each([
    [now, "just now"],
    [now - 5000, "just now"],
    [now + 5000, "in a moment"],
    [now - 59_000, "59 s ago"],
    [now - 90 * MINUTE, "1 h ago"],
    [now + 45 * DAY, "in 45 d"],
    [now + 90 * DAY - 2000, "in 90 d"],
    [now + 130 * DAY, "in 4 mo"],
    [now - 400 * DAY, "1 y ago"],
  ])("%i reads %s", (at, text) => expect(relative(at, now)).toBe(text));
});

describe("remaining", () => {
  it("gets finer towards the end and never negative", () => {
    expect(remaining(2 * DAY + 4 * HOUR)).toBe("2 d 4 h");
    expect(remaining(HOUR + 12 * MINUTE)).toBe("1 h 12 min");
    expect(remaining(299_000)).toBe("04:59");
    expect(remaining(-5)).toBe("00:00");
    expect(minutes(61_000)).toBe("01:01");
  });
});

it("spans are written in words", () => {
  expect([0, 15 * MINUTE, HOUR, DAY, 7 * DAY].map(span)).toEqual([
    "none",
    "15 minutes",
    "1 hour",
    "24 hours",
    "7 days",
  ]);
});

it("days have names near today", () => {
  expect(dayTitle(now, now)).toBe("Today");
  expect(dayTitle(now - DAY, now)).toBe("Yesterday");
  expect(dayTitle(now - 3 * DAY, now)).toBe("Wednesday, 18 November 2026");
});

it("bytes are rounded for people", () => {
  expect([512, 1482, 1_482_752, 52_000_000].map(bytes)).toEqual(["512 B", "1.5 kB", "1.5 MB", "52 MB"]);
});
