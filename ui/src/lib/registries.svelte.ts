// Which registry the Keys page works with: the one of this device, or one at a Keywright server.
import { accounts } from "./accounts.svelte";
import { app } from "./app.svelte";
import {
  commands,
  type AccountView,
  type ApiKeyView,
  type ErrorView,
  type RegistriesView,
  type RegistryPermissionsView,
  type RegistryServerView,
  type SignedOutServerView,
} from "./host";
import { keys } from "./keys.svelte";
import { notices } from "./notices.svelte";
import { hostOf } from "./text";

/** Until a server says otherwise; it refuses what it does not allow. */
const EVERYTHING: RegistryPermissionsView = { mayIssue: true, mayVerify: true, mayDefineScopes: true };
/** Where one does not say. */
const NOTHING: RegistryPermissionsView = { mayIssue: false, mayVerify: false, mayDefineScopes: false };
const ASK_AGAIN_MS = 10_000;

class RegistryChoice {
  #view = $state.raw<RegistriesView>({ current: null, servers: [], signedOut: [] });
  #may = $state.raw<RegistryPermissionsView>(EVERYTHING);
  #unsaid = $state.raw<ErrorView | null>(null);
  #askAgain: ReturnType<typeof setTimeout> | undefined;
  busy = $state(false);

  get servers(): RegistryServerView[] {
    return this.#view.servers;
  }

  /** Servers that revocations wait for, and that nobody is signed in to any more. */
  get signedOut(): SignedOutServerView[] {
    return this.#view.signedOut;
  }

  /** The server in use; null for this device. */
  get server(): RegistryServerView | null {
    return this.servers.find(({ accountId }) => accountId === this.#view.current) ?? null;
  }

  /** The account whose server is in use. */
  get account(): AccountView | null {
    return accounts.items.find(({ id }) => id === this.#view.current) ?? null;
  }

  /** Whether this sign-in may change anything here. What the person's role allows besides, the server says. */
  get mayWrite(): boolean {
    return this.server?.mayWrite ?? true;
  }

  get mayIssue(): boolean {
    return this.mayWrite && this.#may.mayIssue;
  }

  get mayVerify(): boolean {
    return this.#may.mayVerify;
  }

  get mayDefineScopes(): boolean {
    return this.mayWrite && this.#may.mayDefineScopes;
  }

  /** Why the server does not say what may be done: then nothing is offered. */
  get unsaid(): ErrorView | null {
    return this.#unsaid;
  }

  /** Whether a key may be changed, rotated and ended. */
  mayChange(key: ApiKeyView): boolean {
    return this.mayWrite && key.mayChange;
  }

  /** Where a server is, for people. */
  host(server: { issuer: string }): string {
    return hostOf(server.issuer);
  }

  async load(): Promise<void> {
    const before = this.#view.current;
    try {
      this.#view = await commands.listRegistries();
      if (this.#view.current !== before) void notices.clear();
      await this.#askWhatIsAllowed();
    } catch (thrown) {
      app.note(thrown);
    }
  }

  async #askWhatIsAllowed(): Promise<void> {
    const asked = this.#view.current;
    clearTimeout(this.#askAgain);
    if (asked === null) {
      [this.#may, this.#unsaid] = [EVERYTHING, null];
      return;
    }
    try {
      const may = await commands.registryPermissions();
      if (this.#view.current === asked) [this.#may, this.#unsaid] = [may, null];
    } catch (thrown) {
      const error = app.note(thrown);
      if (this.#view.current !== asked) return;
      [this.#may, this.#unsaid] = [NOTHING, error];
      // One that is away or busy says it later, and nobody has to ask for it.
      if (error.retryable) this.#askAgain = setTimeout(() => void this.#askWhatIsAllowed(), ASK_AGAIN_MS);
    }
  }

  /** Works with another registry; throws an ErrorView. */
  async choose(accountId: string | null): Promise<void> {
    this.busy = true;
    try {
      this.#view = await commands.chooseRegistry(accountId);
      // At once: what is marked as read from now on is the other registry's.
      void notices.clear();
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

  /** Takes back all that waits for a server where nobody is signed in any more; throws an ErrorView. */
  async forget(server: SignedOutServerView): Promise<void> {
    try {
      this.#view = await commands.forgetRevocations(server.id);
    } catch (thrown) {
      throw app.note(thrown);
    }
  }
}

export const registries = new RegistryChoice();
