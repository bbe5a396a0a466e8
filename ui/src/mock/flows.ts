// The flows as the app tells them (flows.json is written by `cargo xtask bindings`), and pretended traces:
// `?mock=traces` shows sign-ins and refreshes that went well and wrong.
import type { FlowEventView, FlowTraceView, FlowView } from "../lib/host";
import FLOWS from "./flows.json";
import { HOUR, MINUTE, type World } from "./world";

/** Events out of `step`, `after`, and a code; a code with `!` ended it. */
function eventsOf(...lines: [step: number, afterMs: number, code?: string][]): FlowEventView[] {
  return lines.map(([step, afterMs, code = null], index) => ({
    step,
    afterMs,
    code: code && code.replace("!", ""),
    ended: code === null ? index === lines.length - 1 : code.endsWith("!"),
  }));
}

const START: [number, number][] = [
  [1, 2],
  [2, 2],
  [3, 214],
];
const SIGN_INS: FlowEventView[][] = [
  eventsOf(...START, [4, 9120], [5, 9120], [6, 9388], [7, 9391], [8, 9502]),
  eventsOf(...START, [5, 2140, "state_mismatch"], [4, 9120], [5, 9120], [6, 9388], [7, 9391], [8, 9502]),
  eventsOf(...START, [4, 7031, "access_denied!"]),
  eventsOf(...START, [4, 6020], [5, 6020], [6, 6251, "invalid_grant!"]),
];
const REFRESHES: FlowEventView[][] = [
  eventsOf([1, 0], [2, 61], [3, 61], [4, 74]),
  eventsOf([1, 0], [2, 58], [3, 58, "invalid_grant!"]),
];

export class MockFlows {
  constructor(private world: World) {}

  list(): FlowView[] {
    return FLOWS;
  }

  /** Newest first. */
  traces(): FlowTraceView[] {
    if (!this.world.scenario.has("traces")) return [];
    const now = Date.now();
    const trace = (flow: string, events: FlowEventView[], id: number, ago: number): FlowTraceView => ({
      id,
      flow,
      providerName: "id.example.com",
      startedAt: now - ago,
      running: false,
      events,
      leftOut: 0,
    });
    return [
      ...SIGN_INS.map((events, id) => trace("authorization-code", events, id, MINUTE + id * HOUR)),
      ...REFRESHES.map((events, id) => trace("refresh-token", events, 10 + id, 2 * MINUTE + id * HOUR)),
    ];
  }
}
