// One ticking clock for every countdown; it only runs while something reads it.
import { createSubscriber } from "svelte/reactivity";

function ticker(everyMs: number): () => number {
  let at = Date.now();
  const subscribe = createSubscriber((update) => {
    at = Date.now();
    const timer = setInterval(() => {
      at = Date.now();
      update();
    }, everyMs);
    return () => clearInterval(timer);
  });
  return () => {
    subscribe();
    return Math.max(at, Date.now() - everyMs);
  };
}

/** Now, to the second: countdowns. */
export const nowBySecond = ticker(1000);
/** Now, to the half minute: "5 min ago". */
export const nowByMinute = ticker(30_000);
