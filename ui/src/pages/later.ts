// The pages that do not come with the shell, in one chunk that is fetched right after its first frame.
import type { Component } from "svelte";
import type { PageId } from "../lib/router.svelte";
import AccountsPage from "./accounts/AccountsPage.svelte";
import ActivityPage from "./activity/ActivityPage.svelte";
import FlowsPage from "./flows/FlowsPage.svelte";
import NoticesPage from "./notices/NoticesPage.svelte";
import SessionsPage from "./sessions/SessionsPage.svelte";
import SettingsPage from "./settings/SettingsPage.svelte";

export const laterPages: Record<Exclude<PageId, "keys">, Component> = {
  notices: NoticesPage,
  accounts: AccountsPage,
  sessions: SessionsPage,
  activity: ActivityPage,
  flows: FlowsPage,
  settings: SettingsPage,
};
