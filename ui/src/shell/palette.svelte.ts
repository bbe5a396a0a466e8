// What the command palette offers by itself, in the order of use of this session.
import Bell from "@lucide/svelte/icons/bell";
import History from "@lucide/svelte/icons/history";
import Keyboard from "@lucide/svelte/icons/keyboard";
import KeyRound from "@lucide/svelte/icons/key-round";
import LogIn from "@lucide/svelte/icons/log-in";
import MonitorSmartphone from "@lucide/svelte/icons/monitor-smartphone";
import Moon from "@lucide/svelte/icons/moon";
import Plus from "@lucide/svelte/icons/plus";
import ScanSearch from "@lucide/svelte/icons/scan-search";
import Settings from "@lucide/svelte/icons/settings";
import ShieldCheck from "@lucide/svelte/icons/shield-check";
import Sun from "@lucide/svelte/icons/sun";
import Workflow from "@lucide/svelte/icons/workflow";
import UserRound from "@lucide/svelte/icons/user-round";
import UsersRound from "@lucide/svelte/icons/users-round";
import { accounts } from "../lib/accounts.svelte";
import { app } from "../lib/app.svelte";
import { openDialog, type DialogRequest } from "../lib/dialogs.svelte";
import type { Theme } from "../lib/host";
import { registries } from "../lib/registries.svelte";
import { PAGES } from "../lib/router.svelte";
import { goAndFocus, PAGE_TITLES } from "../lib/shortcuts.svelte";
import { theme } from "../lib/theme.svelte";
import { notify } from "../lib/toasts.svelte";

export interface Entry {
  id: string;
  group: string;
  title: string;
  note?: string;
  /** Other words that find it. */
  words?: string;
  icon: typeof KeyRound;
  run: () => void;
}

// eslint-disable-next-line svelte/prefer-svelte-reactivity -- nothing on screen reads it
const uses = new Map<string, number>();
export const noteUse = (id: string): void => void uses.set(id, (uses.get(id) ?? 0) + 1);

const open = (request: DialogRequest) => (): void => openDialog(request);

const pageIcons = {
  keys: KeyRound,
  notices: Bell,
  accounts: UsersRound,
  sessions: MonitorSmartphone,
  activity: History,
  flows: Workflow,
  settings: Settings,
};

export function entries(): Entry[] {
  const other: Theme = theme.resolved === "dark" ? "light" : "dark";
  const list: Entry[] = [
    {
      id: "issue",
      title: "Issue a key",
      words: "new create add api",
      icon: Plus,
      run: open({ kind: "issue-key" }),
    },
    {
      id: "verify",
      title: "Verify a key",
      words: "check test paste",
      icon: ScanSearch,
      run: open({ kind: "verify-key" }),
    },
    {
      id: "sign-in",
      title: "Add an account",
      words: "sign in login provider",
      icon: LogIn,
      run: open({ kind: "sign-in" }),
    },
    {
      id: "keychain",
      title: "Check the keychain",
      words: "probe secret service",
      icon: ShieldCheck,
      run: checkKeychain,
    },
    {
      id: "theme",
      title: other === "dark" ? "Use the dark theme" : "Use the light theme",
      words: "theme appearance colour night",
      icon: other === "dark" ? Moon : Sun,
      run: () => void app.saveSettings({ theme: other }).catch(() => undefined),
    },
    {
      id: "shortcuts",
      title: "Show keyboard shortcuts",
      words: "help keys",
      icon: Keyboard,
      run: open({ kind: "shortcuts" }),
    },
  ]
    .filter(({ id }) => id !== "issue" || registries.mayIssue)
    .filter(({ id }) => id !== "verify" || registries.mayVerify)
    .map((entry) => ({ ...entry, group: "Actions" }));
  for (const page of PAGES) {
    list.push({
      id: `page:${page}`,
      group: "Pages",
      title: PAGE_TITLES[page],
      words: "go open page",
      icon: pageIcons[page],
      run: () => goAndFocus(page),
    });
  }
  for (const account of accounts.items) {
    list.push({
      id: `account:${account.id}`,
      group: "Accounts",
      title: account.displayName,
      note: account.email ?? account.providerName,
      icon: UserRound,
      run: () => goAndFocus("accounts"),
    });
  }
  // Most used first, inside its group; the groups keep their order.
  const groups = ["Actions", "Pages", "Accounts"];
  return list.sort(
    (a, b) =>
      groups.indexOf(a.group) - groups.indexOf(b.group) || (uses.get(b.id) ?? 0) - (uses.get(a.id) ?? 0),
  );
}

/** Every word of the query must occur somewhere in the entry. */
export function matches(list: Entry[], text: string): Entry[] {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  return list.filter((entry) => {
    const hay = `${entry.title} ${entry.note ?? ""} ${entry.words ?? ""}`.toLowerCase();
    return words.every((word) => hay.includes(word));
  });
}

async function checkKeychain(): Promise<void> {
  await app.checkKeychain();
  if (app.keychainProblem) notify("error", app.keychainProblem.message, app.keychainProblem.hint);
  else
    notify(
      "ok",
      "The keychain works",
      app.keychain ? `${app.keychain.storeName}, ${app.keychain.tookMs} ms` : null,
    );
}
