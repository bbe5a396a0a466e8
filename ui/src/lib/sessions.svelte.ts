// Where one account is signed in, and who has access to it: the server's answer, fetched when asked for.
import { app } from "./app.svelte";
import { commands, type AccountSessionsView, type ErrorView } from "./host";

class SessionList {
  /** The account that is shown; null before one is chosen. */
  accountId = $state<string | null>(null);
  view = $state.raw<AccountSessionsView | null>(null);
  loading = $state(false);
  error = $state.raw<ErrorView | null>(null);

  #run = 0;

  /** Shows an account: what was known of another one goes at once. */
  async load(accountId: string): Promise<void> {
    const run = ++this.#run;
    if (this.accountId !== accountId) {
      this.accountId = accountId;
      this.view = null;
      this.error = null;
    }
    this.loading = true;
    try {
      const view = await commands.listSessions(accountId);
      if (run !== this.#run) return;
      this.view = view;
      this.error = null;
    } catch (thrown) {
      const error = app.note(thrown);
      if (run === this.#run) this.error = error;
    } finally {
      if (run === this.#run) this.loading = false;
    }
  }

  /** The account has gone: nothing of it stays on the screen, and no late answer brings it back. */
  clear(): void {
    this.#run += 1;
    this.accountId = null;
    this.view = null;
    this.error = null;
    this.loading = false;
  }
}

export const sessions = new SessionList();

/** Accounts at a Keywright server are the ones that have sessions to show. */
export const KEYWRIGHT = "keywright";
