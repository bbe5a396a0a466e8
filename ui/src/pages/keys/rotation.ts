// A rotation in words: what starts the clock of the overlap, what can be done, what that means.
import type { OverlapClock, RotationStep, RotationView } from "../../lib/host";
import { exact, span } from "../../lib/time";

export const CLOCKS: { value: OverlapClock; label: string; testid: string }[] = [
  { value: "from_first_use", label: "From first use of the new", testid: "rotate-clock-first-use" },
  { value: "from_issue", label: "From now", testid: "rotate-clock-issue" },
  { value: "until_drained", label: "Until the old is silent", testid: "rotate-clock-drained" },
];

/** Until when the old secret works: "works …". */
export function overlapText(
  clock: OverlapClock,
  overlapMs: number,
  silentMs: number | null,
  issuedAt: number,
): string {
  if (overlapMs === 0) return "stops at once; only the new one works";
  switch (clock) {
    case "from_first_use":
      return `works until ${span(overlapMs)} after the new one is first used`;
    case "from_issue":
      return `works for ${span(overlapMs)}, until ${exact(issuedAt + overlapMs)}`;
    case "until_drained":
      return (
        `works until nobody has used it for ${span(silentMs ?? 0)}, ` +
        `at most ${span(overlapMs)} after the new one is first used`
      );
  }
}

interface StepText {
  /** On the button that asks. */
  button: string;
  title: string;
  text: string;
  /** On the button that does it. */
  confirm: string;
  done: string;
}

export const STEPS: Record<RotationStep, StepText> = {
  cancel: {
    button: "Cancel rotation",
    title: "Cancel the rotation?",
    text: "Nobody has used the new secret. It ends now, and the old one goes on as if nothing had happened.",
    confirm: "Cancel rotation",
    done: "The old secret goes on.",
  },
  roll_back: {
    button: "Roll back",
    title: "Roll back to the old secret?",
    text: "The old secret is the current one again. The new one ends now: programs that already use it fail from the next request on.",
    confirm: "Roll back",
    done: "The old secret is the current one again.",
  },
  finish: {
    button: "Finish now",
    title: "End the old secret now?",
    text: "Only the new secret works from now on. Programs that still send the old one fail from the next request on, and it never comes back.",
    confirm: "End the old secret",
    done: "Only the new secret works.",
  },
};

/** What can be done to a rotation in its state. */
export const stepsOf = (rotation: RotationView): RotationStep[] =>
  rotation.state === "pending" ? ["cancel"] : ["finish", "roll_back"];
