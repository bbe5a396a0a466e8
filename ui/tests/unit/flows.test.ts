// Stepping through a flow, and through what happened.
import { expect, test } from "vitest";
import type { FlowTraceView, FlowView } from "../../src/lib/host";
import FLOWS from "../../src/mock/flows.json";
import { after, failureOf, markOf, outcomeOf, pauseAt, pieces, stopsOf } from "../../src/pages/flows/stops";

const flow = FLOWS[0] as FlowView;
const event = (step: number, afterMs: number, code: string | null = null, ended = false) => ({
  step,
  afterMs,
  code,
  ended,
});
const trace = (events: FlowTraceView["events"], running = false): FlowTraceView => ({
  id: 1,
  flow: flow.id,
  providerName: "id.example.com",
  startedAt: 0,
  running,
  events,
  leftOut: 0,
});

test("ac_195 the three flows have 8, 10 and 4 steps, numbered, in their lanes", () => {
  const counts = FLOWS.slice(0, 3).map(({ steps }) => steps.length);
  expect(counts).toEqual([8, 10, 4]);
  for (const { id, lanes, steps } of FLOWS) {
    expect(steps.map(({ n }) => n)).toEqual(steps.map((_, index) => index + 1));
    for (const { from, to } of steps)
      expect(
        [from, to].every((lane) => lanes.includes(lane)),
        id,
      ).toBe(true);
  }
  expect(stopsOf(flow, null).map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
});

test("ac_195 a step stands as what came last at it, up to where one looks", () => {
  const events = [
    event(3, 1),
    event(5, 2, "state_mismatch"),
    event(5, 9),
    event(6, 10, "invalid_grant", true),
  ];
  expect([0, 1, 2, 3, 4].map((upTo) => markOf(events, 5, upTo))).toEqual([
    "none",
    "none",
    "missed",
    "done",
    "done",
  ]);
  expect(markOf(events, 6, 4)).toBe("failed");
  expect(markOf(events, 7, 4)).toBe("none");
});

test("ac_195 failures of live mode have words, unknown ones none", () => {
  for (const [step, code] of [
    [5, "state_mismatch"],
    [4, "access_denied"],
    [6, "invalid_grant"],
  ] as const)
    expect(failureOf(flow, event(step, 0, code))?.title, code).toBeTruthy();
  expect(failureOf(flow, event(6, 0, "state_mismatch"))).toBeNull();
  expect(failureOf(FLOWS[2] as FlowView, event(3, 0, "invalid_grant"))?.detail).toContain("whole family");
});

test("how a trace ended, in words", () => {
  expect(outcomeOf(trace([event(3, 1)], true))).toBe("going on");
  expect(outcomeOf(trace([event(8, 1, null, true)]))).toBe("succeeded");
  expect(outcomeOf(trace([event(4, 1, "access_denied", true)]))).toBe("failed at step 4");
});

test("times and pauses", () => {
  expect([after(12), after(999), after(1000), after(9120)]).toEqual([
    "+12 ms",
    "+999 ms",
    "+1.0 s",
    "+9.1 s",
  ]);
  const stops = stopsOf(flow, trace([event(1, 0), event(2, 5), event(3, 900), event(4, 60_000)]));
  expect([0, 1, 2, 3].map((index) => pauseAt(stops, index))).toEqual([350, 895, 1600, 1600]);
});

test("code stands between backticks", () => {
  expect(pieces("`a` b")).toEqual([
    { code: true, text: "a" },
    { code: false, text: " b" },
  ]);
});
