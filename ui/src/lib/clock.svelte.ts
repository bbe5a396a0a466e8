// One ticking clock for every countdown; it only runs while something reads it.
import { createSubscriber } from "svelte/reactivity";

function ticker(everyMs: number): () => number {
  const subscribe = createSubscriber((update) => {
    const timer = setInterval(update, everyMs);
    return () => clearInterval(timer);
  });
  return () => {
    subscribe();
    return Date.now();
  };
}

/** Now, to the second: countdowns. */
export const nowBySecond = ticker(1000);
/** Now, to the half minute: "5 min ago". */
export const nowByMinute = ticker(30_000);
