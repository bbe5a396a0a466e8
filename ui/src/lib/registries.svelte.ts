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
  /** The question that is under way, and of which registry; one at a time. */
  #asking: { of: string; answer: Promise<void> } | null = null;
  #askOnceMore = false;
  /** How the account in use stood when it was asked last. */
  #standingAsked = "";
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
    if (await this.#list()) await this.ask();
  }

  /**
   * Some account changed. Asking what is allowed may renew a token, and that is told as a change: it is asked
   * only where the account in use stands otherwise than when it was asked last.
   */
  async follow(): Promise<void> {
    await accounts.load();
    if ((await this.#list()) && this.#standing() !== this.#standingAsked) await this.ask();
  }

  /** Asks what is allowed. What is asked while a question is under way is asked once more after it. */
  ask(): Promise<void> {
    const of = this.#view.current ?? "";
    if (this.#asking?.of === of) {
      this.#askOnceMore = true;
      return this.#asking.answer;
    }
    const asking = { of, answer: this.#askUntilSaid(of) };
    this.#asking = asking;
    return asking.answer.finally(() => {
      if (this.#asking === asking) this.#asking = null;
    });
  }

  /** Says whether it could. */
  async #list(): Promise<boolean> {
    try {
      this.#take(await commands.listRegistries());
      return true;
    } catch (thrown) {
      app.note(thrown);
      return false;
    }
  }

  /** Nothing that another registry said stays. */
  #take(view: RegistriesView): void {
    const before = this.#view.current;
    this.#view = view;
    if (view.current === before) return;
    [this.#may, this.#unsaid] = [view.current === null ? EVERYTHING : NOTHING, null];
    // At once: what is marked as read from now on is the other registry's.
    void notices.clear();
  }

  #standing(): string {
    const account = this.account;
    return JSON.stringify([
      this.#view.current,
      account?.status,
      account?.statusReason?.code,
      account?.scopes,
      account?.signedInAt,
    ]);
  }

  async #askUntilSaid(of: string): Promise<void> {
    do {
      this.#askOnceMore = false;
      await this.#askWhatIsAllowed();
    } while (this.#askOnceMore && of === (this.#view.current ?? ""));
  }

  async #askWhatIsAllowed(): Promise<void> {
    const asked = this.#view.current;
    this.#standingAsked = this.#standing();
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
      if (error.retryable) this.#askAgain = setTimeout(() => void this.ask(), ASK_AGAIN_MS);
    }
  }

  /** Works with another registry; throws an ErrorView. */
  async choose(accountId: string | null): Promise<void> {
    this.busy = true;
    try {
      this.#take(await commands.chooseRegistry(accountId));
      await Promise.all([keys.clear(), this.ask()]);
      await this.#list();
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
