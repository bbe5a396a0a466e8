// Keyboard shortcuts of the whole app. Nothing is reachable by shortcut only.
// Shortcuts of a single character can be switched off (WCAG 2.1.4).
import { app } from "./app.svelte";
import { openDialog, dialog } from "./dialogs.svelte";
import { registries } from "./registries.svelte";
import { go, PAGES, type PageId } from "./router.svelte";

let singleKeys = $state(true);
export const shortcuts = {
  get singleKeys(): boolean {
    return singleKeys;
  },
  set singleKeys(on: boolean) {
    singleKeys = on;
  },
};

export interface ShortcutLine {
  keys: string[];
  text: string;
  single?: boolean;
}

export const PAGE_TITLES: Record<PageId, string> = {
  keys: "API keys",
  notices: "Notices",
  accounts: "Accounts",
  sessions: "Sessions",
  activity: "Activity",
  flows: "Flows",
  settings: "Settings",
};
const SECOND_KEY: Record<string, PageId> = {
  k: "keys",
  n: "notices",
  a: "accounts",
  e: "sessions",
  y: "activity",
  f: "flows",
  s: "settings",
};

export const MOD = /mac/i.test(navigator.platform) ? "⌘" : "Ctrl";

export const SHORTCUT_LINES: { title: string; lines: ShortcutLine[] }[] = [
  {
    title: "Anywhere",
    lines: [
      { keys: [MOD, "K"], text: "Command palette" },
      {
        keys: [MOD, "1"],
        text: "API keys (2 Notices, 3 Accounts, 4 Sessions, 5 Activity, 6 Flows, 7 Settings)",
      },
      { keys: ["Esc"], text: "Close what is on top" },
      { keys: ["F5"], text: "Reload the list" },
      {
        keys: ["G", "K"],
        text: "Go to API keys (N Notices, A Accounts, E Sessions, Y Activity, F Flows, S Settings)",
        single: true,
      },
      { keys: ["N"], text: "Issue a key", single: true },
      { keys: ["V"], text: "Verify a key", single: true },
      { keys: ["/"], text: "Search on this page", single: true },
      { keys: ["?"], text: "This list", single: true },
    ],
  },
  {
    title: "In the list of keys",
    lines: [
      { keys: ["↑", "↓"], text: "Move between rows (Home, End, Page Up, Page Down)" },
      { keys: ["Enter"], text: "Open the key" },
      { keys: ["Shift", "F10"], text: "Actions of the key" },
    ],
  },
  {
    title: "In a flow",
    lines: [{ keys: ["↑", "↓"], text: "Step back and forth (←, →, Home, End)" }],
  },
];

let prefixAt = -Infinity;

export function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLElement)) return false;
  if (target.isContentEditable || target instanceof HTMLTextAreaElement) return true;
  return target instanceof HTMLInputElement && !["checkbox", "radio", "button"].includes(target.type);
}

function singleKey(event: KeyboardEvent): boolean {
  const key = event.key.toLowerCase();
  if (performance.now() - prefixAt < 1200) {
    prefixAt = -Infinity;
    const page = SECOND_KEY[key];
    if (page) goAndFocus(page);
    return page !== undefined;
  }
  if (key === "g") prefixAt = performance.now();
  else if (key === "n" && registries.mayIssue) openDialog({ kind: "issue-key" });
  else if (key === "v" && registries.mayVerify) openDialog({ kind: "verify-key" });
  else if (event.key === "?") openDialog({ kind: "shortcuts" });
  else if (key === "/") document.querySelector<HTMLElement>("[data-page-search]")?.focus();
  else return false;
  return true;
}

/** Goes to a page and puts the focus on its heading, as a click on a link would be announced. */
export function goAndFocus(page: PageId): void {
  go(page);
  requestAnimationFrame(() => document.querySelector<HTMLElement>("[data-page-heading]")?.focus());
}

export function onShortcut(event: KeyboardEvent): void {
  if (event.defaultPrevented || event.isComposing) return;
  const mod = event.ctrlKey || event.metaKey;
  // Some web views load the window anew on these keys, and what it shows would be lost: the page asks again.
  if (event.key === "F5" || (mod && event.key.toLowerCase() === "r")) {
    event.preventDefault();
    if (!dialog.open) app.generation += 1;
    return;
  }
  if (mod && !event.altKey && !event.shiftKey) {
    if (event.key.toLowerCase() === "k") {
      event.preventDefault();
      if (!dialog.open) openDialog({ kind: "palette" });
      return;
    }
    const page = PAGES_BY_NUMBER[event.key];
    if (page && !dialog.open) {
      event.preventDefault();
      goAndFocus(page);
    }
    return;
  }
  if (mod || event.altKey || dialog.open || !singleKeys || isTyping(event.target)) return;
  if (document.querySelector("[role=menu]")) return; // a menu has its own letters
  if (singleKey(event)) event.preventDefault();
}

const PAGES_BY_NUMBER: Record<string, PageId> = Object.fromEntries(
  PAGES.map((page, index) => [String(index + 1), page]),
);
