// What is stepped through: the steps of a flow, or what really happened, in its order. No state, no host.
import type { FlowEventView, FlowFailureView, FlowTraceView, FlowView } from "../../lib/host";

/** One place to stand at. */
export interface Stop {
  step: number;
  /** What really happened there; none where the flow is only explained. */
  event: FlowEventView | null;
}

export type Mark = "none" | "done" | "missed" | "failed";

/** Text in pieces; code stands between backticks. */
export const pieces = (text: string): { code: boolean; text: string }[] =>
  text
    .split("`")
    .map((piece, index) => ({ code: index % 2 === 1, text: piece }))
    .filter((piece) => piece.text !== "");

export const stopsOf = (flow: FlowView, trace: FlowTraceView | null): Stop[] =>
  trace
    ? trace.events.map((event) => ({ step: event.step, event }))
    : flow.steps.map(({ n }) => ({ step: n, event: null }));

/** How a step stands after the first `upTo` events: what came last counts. */
export function markOf(events: FlowEventView[], step: number, upTo: number): Mark {
  const last = events.slice(0, upTo).findLast((event) => event.step === step);
  if (!last) return "none";
  if (last.code === null) return "done";
  return last.ended ? "failed" : "missed";
}

export const failureOf = (flow: FlowView, event: FlowEventView): FlowFailureView | null =>
  flow.failures.find(({ step, code }) => step === event.step && code === event.code) ?? null;

/** "going on", "succeeded", "failed at step 6". */
export function outcomeOf(trace: FlowTraceView): string {
  if (trace.running) return "going on";
  const last = trace.events.at(-1);
  return last?.code ? `failed at step ${last.step}` : "succeeded";
}

/** "+0.3 s", "+12 ms". */
export const after = (ms: number): string => (ms < 1000 ? `+${ms} ms` : `+${(ms / 1000).toFixed(1)} s`);

/** How long to stand at a stop before going on: as it was, within what an eye can follow. */
export function pauseAt(stops: Stop[], index: number): number {
  const [now, next] = [stops[index]?.event, stops[index + 1]?.event];
  if (!now || !next) return 1600;
  return Math.min(Math.max(next.afterMs - now.afterMs, 350), 1600);
}
