// The accounts of this device. The host says when they changed; then they are fetched again.
import { app } from "./app.svelte";
import { commands, type AccountView, type ErrorView } from "./host";

class AccountList {
  items = $state.raw<AccountView[]>([]);
  fresh = $state(true);
  error = $state<ErrorView | null>(null);
  /** Ids of accounts with work under way. */
  busy = $state.raw<ReadonlySet<string>>(new Set());

  async load(): Promise<void> {
    try {
      this.items = await commands.listAccounts();
      this.error = null;
      this.fresh = false;
    } catch (thrown) {
      this.error = app.note(thrown);
    }
  }

  /** Refreshes one account's access; throws an ErrorView. */
  async refreshOne(id: string): Promise<void> {
    this.busy = new Set([...this.busy, id]);
    try {
      this.put(await commands.refreshAccount(id));
    } catch (thrown) {
      await this.load();
      throw app.note(thrown);
    } finally {
      this.busy = new Set([...this.busy].filter((other) => other !== id));
    }
  }

  put(account: AccountView): void {
    const known = this.items.some((item) => item.id === account.id);
    this.items = known
      ? this.items.map((item) => (item.id === account.id ? account : item))
      : [...this.items, account];
    this.fresh = false;
  }

  remove(id: string): void {
    this.items = this.items.filter((item) => item.id !== id);
  }
}

export const accounts = new AccountList();
