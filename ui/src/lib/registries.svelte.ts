// Which registry the Keys page works with: the one of this device, or one at a Keywright server.
import { accounts } from "./accounts.svelte";
import { app } from "./app.svelte";
import { commands, type AccountView, type RegistriesView, type RegistryServerView } from "./host";
import { keys } from "./keys.svelte";
import { hostOf } from "./text";

class RegistryChoice {
  #view = $state.raw<RegistriesView>({ current: null, servers: [] });
  busy = $state(false);

  get servers(): RegistryServerView[] {
    return this.#view.servers;
  }

  /** The server in use; null for this device. */
  get server(): RegistryServerView | null {
    return this.servers.find(({ accountId }) => accountId === this.#view.current) ?? null;
  }

  /** The account whose server is in use. */
  get account(): AccountView | null {
    return accounts.items.find(({ id }) => id === this.#view.current) ?? null;
  }

  /** Whether issuing, rotating and revoking may work here. What a person's role allows, a server says. */
  get mayWrite(): boolean {
    return this.server?.mayWrite ?? true;
  }

  /** Where a server is, for people. */
  host(server: RegistryServerView): string {
    return hostOf(server.issuer);
  }

  async load(): Promise<void> {
    try {
      this.#view = await commands.listRegistries();
    } catch (thrown) {
      app.note(thrown);
    }
  }

  /** Works with another registry; throws an ErrorView. */
  async choose(accountId: string | null): Promise<void> {
    this.busy = true;
    try {
      this.#view = await commands.chooseRegistry(accountId);
      await keys.clear();
      await this.load();
    } catch (thrown) {
      throw app.note(thrown);
    } finally {
      this.busy = false;
    }
  }

  /** Asks the server now, and tries what waits for it. */
  async retry(server: RegistryServerView): Promise<void> {
    this.busy = true;
    try {
      this.#view = await commands.retryRevocations(server.accountId);
      await keys.refresh();
      await this.load();
    } catch (thrown) {
      app.note(thrown);
    } finally {
      this.busy = false;
    }
  }

  /** Takes a waiting revocation back; throws an ErrorView. */
  async discard(server: RegistryServerView, keyId: string): Promise<void> {
    try {
      this.#view = await commands.discardRevocation(server.accountId, keyId);
      await keys.refresh();
    } catch (thrown) {
      throw app.note(thrown);
    }
  }
}

export const registries = new RegistryChoice();
