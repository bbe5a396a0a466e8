// The pretended sign-in: it walks through the real steps, on time.
import type {
  AccountView,
  ErrorView,
  ProviderPresetView,
  SignInProgressView,
  SignInRequest,
  SignInStep,
} from "../lib/host";
import { fail } from "./fail";
import { DAY, HOUR, MINUTE, type World } from "./world";

export const PRESETS: ProviderPresetView[] = [
  {
    id: "openid",
    name: "OpenID provider",
    issuer: "",
    clientId: "",
    isOpenid: true,
    defaultScopes: ["openid", "profile", "email", "offline_access"],
    wantsClientSecret: false,
    registrationHint:
      "Register a native application with the redirect http://127.0.0.1/callback at your provider.",
  },
  {
    id: "keywright",
    name: "Keywright server",
    issuer: "",
    clientId: "keywright-desktop",
    isOpenid: true,
    defaultScopes: [
      "openid",
      "profile",
      "email",
      "offline_access",
      "account",
      "keys:*",
      "scopes:read",
      "audit:read",
    ],
    wantsClientSecret: false,
    registrationHint: "A Keywright server knows this app already; nothing needs to be registered.",
  },
  {
    id: "google",
    name: "Google",
    issuer: "https://accounts.google.com",
    clientId: "",
    isOpenid: true,
    defaultScopes: ["openid", "profile", "email"],
    wantsClientSecret: true,
    registrationHint: "In the Google Cloud console, create an OAuth client of type “Desktop app”.",
  },
  {
    id: "github",
    name: "GitHub",
    issuer: "https://github.com",
    clientId: "",
    isOpenid: false,
    defaultScopes: ["read:user", "user:email"],
    wantsClientSecret: true,
    registrationHint:
      "In the developer settings, register an OAuth app with the callback http://127.0.0.1/callback.",
  },
  {
    id: "gitlab",
    name: "GitLab",
    issuer: "https://gitlab.com",
    clientId: "",
    isOpenid: true,
    defaultScopes: ["openid", "profile", "email"],
    wantsClientSecret: false,
    registrationHint: "In your preferences under Applications, add one that is not confidential.",
  },
  {
    id: "microsoft",
    name: "Microsoft",
    issuer: "https://login.microsoftonline.com/common/v2.0",
    clientId: "",
    isOpenid: true,
    defaultScopes: ["openid", "profile", "email", "offline_access"],
    wantsClientSecret: false,
    registrationHint: "In Entra, register a public client with the redirect http://localhost.",
  },
];

const CANCELLED: ErrorView = {
  code: "login_cancelled",
  message: "The sign-in was cancelled.",
  hint: null,
  retryable: true,
};
const DECLINED: ErrorView = {
  code: "access_denied",
  message: "You declined access.",
  hint: "Sign in again and approve, if this was not meant.",
  retryable: true,
};
const TIMED_OUT: ErrorView = {
  code: "login_timeout",
  message: "The browser did not answer in time.",
  hint: "Try again; Settings can allow more time.",
  retryable: true,
};

interface Pending {
  id: string;
  end: (outcome: "ok" | ErrorView) => void;
}

export class MockAccounts {
  #pending: Pending | null = null;

  constructor(
    private world: World,
    private emit: (event: string, payload?: unknown) => void,
    private note: (action: string, account: AccountView, summary: string) => void,
  ) {}

  list(): AccountView[] {
    return structuredClone(this.world.accounts);
  }

  /** Client ids steer it: "deny" declines, "wait" waits for ever, "nobrowser" cannot open one. */
  async signIn(request: SignInRequest): Promise<AccountView> {
    this.#pending?.end(CANCELLED);
    const preset = PRESETS.find(({ id }) => id === request.providerId) ?? (PRESETS[0] as ProviderPresetView);
    const name = preset.issuer ? preset.name : new URL(request.issuer).host;
    const progress: SignInProgressView = {
      signInId: crypto.randomUUID(),
      step: "discovering",
      providerName: name,
      expiresAt: Date.now() + this.world.settings.signInTimeoutS * 1000,
      browserError: null,
    };
    const step = (to: SignInStep, browserError: string | null = null): void =>
      this.emit("sign-in-progressed", { ...progress, step: to, browserError });
    const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

    let end: Pending["end"] = () => undefined;
    const outcome = new Promise<"ok" | ErrorView>((done) => (end = done));
    this.#pending = { id: progress.signInId, end };
    step("discovering");
    await pause(250);
    const noBrowser = request.clientId === "nobrowser";
    step(
      noBrowser ? "browser_not_opened" : "waiting_for_browser",
      noBrowser ? "No program is registered for web links." : null,
    );
    const timers = [setTimeout(() => end(TIMED_OUT), progress.expiresAt - Date.now())];
    if (request.clientId === "deny") timers.push(setTimeout(() => end(DECLINED), 700));
    else if (request.clientId !== "wait" && !noBrowser) timers.push(setTimeout(() => end("ok"), 1200));
    const answer = await outcome;
    timers.forEach(clearTimeout);
    if (this.#pending.id === progress.signInId) this.#pending = null;
    if (answer !== "ok") {
      step("ended");
      throw answer;
    }
    step("exchanging");
    await pause(300);
    step("storing");
    await pause(200);
    step("ended");
    return this.#keep(request, preset, name);
  }

  #keep(request: SignInRequest, preset: ProviderPresetView, providerName: string): AccountView {
    const now = Date.now();
    const old = this.world.accounts.find(({ id }) => id === request.accountId);
    const account: AccountView = {
      id: old?.id ?? `acc_${crypto.randomUUID().slice(0, 8)}`,
      displayName: old?.displayName ?? "Grace Hopper",
      email: old?.email ?? "grace@example.com",
      emailVerified: true,
      providerId: preset.id,
      providerName,
      issuer: preset.issuer || request.issuer,
      subject: old?.subject ?? "10769150350006150715",
      clientId: request.clientId,
      scopes: request.scopes.length ? request.scopes : preset.defaultScopes,
      missingScopes: [],
      status: preset.isOpenid ? "signed_in" : "session_only",
      statusReason: null,
      accessToken: { issuedAt: now, expiresAt: now + HOUR, refreshAt: now + 48 * MINUTE },
      inKeychain: preset.isOpenid,
      identityVerified: preset.isOpenid,
      signedInAt: old?.signedInAt ?? now,
      lastRefreshedAt: null,
      clockOffsetMs: null,
    };
    this.world.accounts = [...this.world.accounts.filter(({ id }) => id !== account.id), account];
    this.note("account.signed_in", account, `“${account.displayName}” signed in with ${providerName}`);
    return structuredClone(account);
  }

  #mine(id: string): Pending {
    return this.#pending?.id === id
      ? this.#pending
      : fail("login_not_pending", "This sign-in has already ended.", "Start a new one.");
  }
  cancel(id: string): null {
    this.#mine(id).end(CANCELLED);
    return null;
  }
  touch(id: string): null {
    this.#mine(id);
    return null;
  }
  finish(id: string, url: string): null {
    const pending = this.#mine(id);
    if (!url.startsWith("http://127.0.0.1"))
      fail(
        "callback_malformed",
        "This is not the address of the answer.",
        "Copy the whole address; it begins with http://127.0.0.1.",
      );
    pending.end("ok");
    return null;
  }

  async refresh(id: string): Promise<AccountView> {
    await new Promise((done) => setTimeout(done, 400));
    const account = this.world.accounts.find((item) => item.id === id);
    if (!account) return fail("account_not_found", "There is no such account on this device.");
    if (this.world.scenario.has("offline")) {
      account.status = "offline";
      account.statusReason = {
        code: "network_error",
        message: "The provider could not be reached.",
        hint: "Nothing was deleted. It is tried again by itself.",
        retryable: true,
      };
      throw account.statusReason;
    }
    const now = Date.now();
    account.accessToken = { issuedAt: now, expiresAt: now + HOUR, refreshAt: now + 48 * MINUTE };
    account.lastRefreshedAt = now;
    return structuredClone(account);
  }

  signOut(id: string) {
    const account = this.world.accounts.find((item) => item.id === id);
    if (!account) return fail("account_not_found", "There is no such account on this device.");
    this.world.accounts = this.world.accounts.filter((item) => item.id !== id);
    const revoked = account.providerId !== "github" && account.signedInAt < Date.now() + DAY;
    this.note("account.signed_out", account, `“${account.displayName}” signed out`);
    this.emit("accounts-changed", null);
    return {
      accountId: id,
      revokedAtIssuer: revoked,
      revocationNote: revoked
        ? null
        : {
            code: "revocation_unsupported",
            message: "It offers no way to end access.",
            hint: null,
            retryable: false,
          },
      keychainEntryDeleted: true,
    };
  }
}
