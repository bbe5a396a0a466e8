// One sign-in as the dialog follows it: the command's promise and the events of its progress.
import { accounts } from "../../lib/accounts.svelte";
import { app } from "../../lib/app.svelte";
import { toErrorView } from "../../lib/errors";
import {
  commands,
  events,
  type AccountView,
  type ErrorView,
  type ProviderPresetView,
  type SignInProgressView,
  type SignInRequest,
} from "../../lib/host";
import { KEYWRIGHT } from "../../lib/sessions.svelte";

/** What the form holds; it outlives a failed try. */
export class SignInDraft {
  providerId = $state("openid");
  issuer = $state("");
  clientId = $state("");
  clientSecret = $state("");
  /** Null until the person changes the usual ones. */
  scopes = $state<string | null>(null);
  /** What the account asked for before, if it is signed in again. */
  held: string[] = [];
  loginHint = $state("");

  constructor(account?: AccountView, provider?: string, issuer?: string) {
    if (provider) this.providerId = provider;
    if (issuer) this.issuer = issuer;
    if (!account) return;
    this.providerId = account.providerId;
    this.issuer = account.issuer;
    this.clientId = account.clientId;
    this.held = [...account.scopes, ...account.missingScopes];
    this.loginHint = account.email ?? "";
  }

  /**
   * The scopes to ask for unless the person changes them. At a Keywright server a sign-in from before some of them
   * were there, or with fewer, asks for the usual ones too: they are what it is offered for.
   */
  usualScopes(preset: ProviderPresetView | undefined): string {
    const usual = preset?.defaultScopes ?? [];
    if (this.held.length === 0) return usual.join(" ");
    const missing = preset?.id === KEYWRIGHT ? usual.filter((scope) => !this.held.includes(scope)) : [];
    return [...this.held, ...missing].join(" ");
  }
}

let newest = 0;

export class SignIn {
  phase = $state<"form" | "running" | "failed" | "done">("form");
  progress = $state.raw<SignInProgressView | null>(null);
  error = $state.raw<ErrorView | null>(null);
  account = $state.raw<AccountView | null>(null);
  /** What went wrong with a copy, a reopened browser or a pasted address. */
  asideError = $state.raw<ErrorView | null>(null);

  #request: SignInRequest | null = null;
  #run = 0;
  #left = false;

  /** Starts, or starts afresh with the same answers. */
  async start(request = this.#request): Promise<void> {
    if (!request) return;
    const run = ++this.#run;
    this.#request = request;
    this.phase = "running";
    this.progress = null;
    this.error = null;
    this.asideError = null;
    const mine = ++newest;
    const off = await events.signInProgressed.listen(({ payload }) => {
      // Left before the host told the id: end it now, unless a newer one has already done so.
      if (this.#left && mine === newest && payload.step !== "ended") {
        commands.cancelSignIn(payload.signInId).catch(() => undefined);
      }
      // The first id that shows up is ours: a new sign-in ends the one before (AC-017).
      if (run !== this.#run || payload.step === "ended") return;
      if (this.progress === null || this.progress.signInId === payload.signInId) this.progress = payload;
    });
    try {
      const account = await commands.signIn(request);
      accounts.put(account);
      if (run !== this.#run) return;
      this.account = account;
      this.phase = "done";
    } catch (thrown) {
      if (run !== this.#run) return;
      this.error = app.note(thrown);
      this.phase = "failed";
    } finally {
      off();
    }
  }

  /** Ends it; the command then answers `login_cancelled`. */
  async cancel(): Promise<void> {
    const id = this.progress?.signInId;
    if (id) await this.#aside(() => commands.cancelSignIn(id));
  }

  /** Leaves without waiting for the answer. */
  abandon(): void {
    this.#run += 1;
    this.#left = this.phase === "running" && this.progress === null;
    const id = this.progress?.signInId;
    if (this.phase === "running" && id) commands.cancelSignIn(id).catch(() => undefined); // it may have just ended
  }

  reopen = (): Promise<boolean> => this.#with((id) => commands.reopenBrowser(id));
  copyLink = (): Promise<boolean> => this.#with((id) => commands.copySignInLink(id));
  finish = (pasted: string): Promise<boolean> => this.#with((id) => commands.finishSignIn(id, pasted));

  async #with(call: (id: string) => Promise<unknown>): Promise<boolean> {
    const id = this.progress?.signInId;
    return id ? this.#aside(() => call(id)) : false;
  }

  async #aside(call: () => Promise<unknown>): Promise<boolean> {
    try {
      await call();
      this.asideError = null;
      return true;
    } catch (thrown) {
      this.asideError = toErrorView(thrown);
      return false;
    }
  }
}
