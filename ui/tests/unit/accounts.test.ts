// Accounts: the form that asks for no password, the life of an access token, and what stays after a sign-out.
import { mockIPC } from "@tauri-apps/api/mocks";
import { render, screen, waitFor, within } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { tick } from "svelte";
import { afterEach, describe, expect, it, vi } from "vitest";
import { accounts } from "../../src/lib/accounts.svelte";
import type { AccessTokenLifeView, AccountView, SessionView } from "../../src/lib/host";
import { sessions } from "../../src/lib/sessions.svelte";
import { PRESETS } from "../../src/mock/accounts";
import SignInForm from "../../src/pages/accounts/SignInForm.svelte";
import SignOutDialog from "../../src/pages/accounts/SignOutDialog.svelte";
import TokenLife from "../../src/pages/accounts/TokenLife.svelte";
import { SignInDraft } from "../../src/pages/accounts/sign-in.svelte";
import SessionsPage from "../../src/pages/sessions/SessionsPage.svelte";

afterEach(() => void vi.useRealTimers());

describe("the sign-in form", () => {
  it("s4_11 asks for no password of any provider", () => {
    for (const preset of PRESETS) {
      const draft = new SignInDraft(undefined, preset.id);
      const { unmount } = render(SignInForm, {
        draft,
        presets: PRESETS,
        cancelled: false,
        onsubmit: () => undefined,
      });
      const form = document.querySelector("form") as HTMLFormElement;
      const inputs = [...form.querySelectorAll("input")];
      expect(inputs.length, preset.id).toBeGreaterThan(PRESETS.length);
      // Hidden letters are the client secret's, where a provider insists on one, and of nothing else.
      const hidden = inputs.filter(({ type }) => type === "password");
      const wanted = preset.wantsClientSecret ? ["client-secret"] : [];
      expect(
        hidden.map(({ dataset }) => dataset.testid),
        preset.id,
      ).toEqual(wanted);
      expect(within(form).queryAllByLabelText(/password|passphrase/i), preset.id).toEqual([]);
      expect(inputs.filter(({ autocomplete }) => autocomplete.includes("password"))).toEqual([]);
      unmount();
    }
    expect(PRESETS.some(({ wantsClientSecret }) => wantsClientSecret)).toBe(true);
  });

  it("signing in again asks for what an older sign-in did not have, at a Keywright server", async () => {
    const again = async (providerId: string): Promise<string[]> => {
      const held = {
        providerId,
        issuer: "https://id.example.com",
        clientId: "c",
        scopes: ["openid", "profile", "extra"],
        missingScopes: [],
        email: null,
        displayName: "Ada",
        providerName: "Somebody",
        subject: "u1",
      } as unknown as AccountView;
      let asked: string[] = [];
      const { unmount } = render(SignInForm, {
        draft: new SignInDraft(held),
        presets: PRESETS,
        account: held,
        cancelled: false,
        onsubmit: ({ scopes }) => (asked = scopes),
      });
      document.querySelector("form")?.requestSubmit();
      await waitFor(() => expect(asked.length).toBeGreaterThan(0));
      unmount();
      return asked;
    };
    const usual = PRESETS.find(({ id }) => id === "keywright")?.defaultScopes ?? [];
    expect(usual).toContain("keys:*");
    const asked = await again("keywright");
    expect(asked).toEqual(expect.arrayContaining([...usual, "extra"]));
    expect(new Set(asked).size).toBe(asked.length);
    // Elsewhere a provider may refuse what it does not know: it is asked for what it gave before.
    expect(await again("openid")).toEqual(["openid", "profile", "extra"]);
  });
});

describe("the life of an access token", () => {
  const issuedAt = Date.UTC(2026, 0, 1);
  const minutes = (count: number): number => issuedAt + count * 60_000;
  const life: AccessTokenLifeView = { issuedAt, expiresAt: minutes(15), refreshAt: minutes(12) };
  const says = (): string => screen.getByTestId("token-life").textContent.replaceAll(/\s+/g, " ").trim();
  const show = (shown: AccessTokenLifeView | null, at: number) => {
    vi.useFakeTimers({ now: at });
    return render(TokenLife, { life: shown });
  };

  it("s4_21 s4_22 is issued and active, and says when it is renewed", () => {
    show(life, minutes(5));
    expect(says()).toContain("Access for 10:00");
    expect(says()).toContain("renewed in 07:00");
    expect(says()).toContain("issued ends");
  });
  it("s4_23 s4_26 comes near its end and then is over, second by second", async () => {
    show(life, minutes(12) - 1000);
    expect(says()).toContain("Access for 03:01");
    vi.advanceTimersByTime(1000);
    await tick();
    expect(says()).toContain("Near its end, 03:00 left");
    expect(says()).not.toContain("renewed in");
    vi.advanceTimersByTime(3 * 60_000 - 1000);
    await tick();
    expect(says()).toContain("Near its end, 00:01 left");
    vi.advanceTimersByTime(1000);
    await tick();
    expect(says()).toContain("Access expired");
  });
  it("s4_25 begins again with a new token, and is nothing without one", async () => {
    const { rerender } = show(life, minutes(20));
    expect(says()).toContain("Access expired");
    await rerender({ life: { issuedAt: minutes(20), expiresAt: minutes(35), refreshAt: minutes(32) } });
    expect(says()).toContain("Access for 15:00");
    await rerender({ life: null });
    expect(says()).toContain("No access in memory");
    await rerender({ life: { issuedAt, expiresAt: null, refreshAt: null } });
    expect(says()).toContain("does not say when access ends");
  });
});

describe("after a sign-out", () => {
  const now = Date.now();
  const ada: AccountView = {
    id: "a1",
    displayName: "Ada Lovelace",
    email: "ada@example.com",
    emailVerified: true,
    providerId: "keywright",
    providerName: "id.example.com",
    issuer: "https://id.example.com",
    subject: "u1",
    clientId: "keywright-desktop",
    scopes: ["openid", "account"],
    missingScopes: [],
    status: "signed_in",
    statusReason: null,
    accessToken: null,
    inKeychain: true,
    identityVerified: true,
    signedInAt: now,
    lastRefreshedAt: null,
    clockOffsetMs: null,
  };
  const session: SessionView = {
    id: "s1",
    current: true,
    device: "computer",
    browser: "Firefox 142",
    os: "Linux",
    userAgent: "Mozilla/5.0",
    address: "192.0.2.7",
    signedInAt: now,
    lastUsedAt: now,
    expiresAt: now + 86_400_000,
    methods: ["pwd"],
    applications: [],
  };

  it("s2_47 nothing of the account stays in memory or on the screen, and no late answer brings it back", async () => {
    let listed = [ada];
    let answer = (): unknown => ({ accountId: "a1", sessions: [session], applications: [], more: false });
    mockIPC((command) => {
      if (command === "list_accounts") return listed;
      if (command === "list_sessions") return answer();
      if (command === "sign_out") {
        listed = [];
        return { accountId: "a1", revokedAtIssuer: true, keychainEntryDeleted: true, revocationNote: null };
      }
      return null;
    });
    sessions.clear();
    accounts.items = [];
    render(SessionsPage);
    expect(await screen.findAllByTestId("session-row")).toHaveLength(1);
    // A question is on its way while the person signs out.
    let late = (): void => undefined;
    const asked = answer();
    answer = () => new Promise((done) => (late = () => done(asked)));
    await userEvent.click(screen.getByTestId("reload-sessions"));
    const { unmount } = render(SignOutDialog, { account: ada });
    await userEvent.click(screen.getByTestId("sign-out-confirm"));
    await waitFor(() => expect(accounts.items).toEqual([]));
    await waitFor(() => expect(screen.queryAllByTestId("session-row")).toEqual([]));
    late();
    await new Promise((done) => setTimeout(done, 20));
    expect([sessions.accountId, sessions.view, sessions.error, sessions.loading]).toEqual([
      null,
      null,
      null,
      false,
    ]);
    expect(screen.queryAllByTestId("session-row")).toEqual([]);
    // As in the app, the dialog closes and takes what it was given with it.
    unmount();
    // What is told of it is that it ended.
    expect(document.body.textContent).not.toContain("192.0.2.7");
    expect(document.body.textContent).not.toContain("ada@example.com");
  });
});
