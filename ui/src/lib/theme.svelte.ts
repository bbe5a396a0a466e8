// The colour scheme. The choice lives in the app's settings; nothing is stored in the web view.
import type { Theme } from "./host";

const darkQuery = matchMedia("(prefers-color-scheme: dark)");
let chosen = $state<Theme>("system");
let systemDark = $state(darkQuery.matches);

function paint(): void {
  const dark = chosen === "dark" || (chosen === "system" && systemDark);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

darkQuery.addEventListener("change", (event) => {
  systemDark = event.matches;
  paint();
});
paint();

export const theme = {
  get chosen(): Theme {
    return chosen;
  },
  get resolved(): "light" | "dark" {
    return chosen === "system" ? (systemDark ? "dark" : "light") : chosen;
  },
};

/** Shows a scheme; who calls it also saves it. */
export function showTheme(next: Theme): void {
  chosen = next;
  paint();
}
