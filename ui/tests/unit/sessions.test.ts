// The Sessions page: what it shows, what it asks before ending something, and what it does when it cannot.
import { mockIPC } from "@tauri-apps/api/mocks";
import { render, screen, waitFor, within } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { beforeEach, describe, expect, it } from "vitest";
import { accounts } from "../../src/lib/accounts.svelte";
import { closeDialog, dialog, openDialog } from "../../src/lib/dialogs.svelte";
import type { AccountSessionsView, AccountView, SessionView } from "../../src/lib/host";
import { sessions } from "../../src/lib/sessions.svelte";
import { methodWords, sessionName } from "../../src/pages/sessions/words";
import DialogHost from "../../src/shell/DialogHost.svelte";
import EndAccessDialog from "../../src/pages/sessions/EndAccessDialog.svelte";
import SessionsPage from "../../src/pages/sessions/SessionsPage.svelte";

const now = Date.now();
const account = (id: string, over: Partial<AccountView> = {}): AccountView => ({
  id,
  displayName: `Ada ${id}`,
  email: null,
  emailVerified: false,
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
  ...over,
});
const session = (id: string, over: Partial<SessionView> = {}): SessionView => ({
  id,
  current: false,
  device: "phone",
  browser: "Safari 18",
  os: "iOS",
  userAgent: "Mozilla/5.0",
  address: "192.0.2.7",
  signedInAt: now - 1000,
  lastUsedAt: now - 1000,
  expiresAt: now + 86_400_000,
  methods: ["pwd", "otp", "mfa"],
  applications: [{ id: "notes", name: "<b>Notes</b>" }],
  ...over,
});
const view = (accountId: string, over: Partial<AccountSessionsView> = {}): AccountSessionsView => ({
  accountId,
  sessions: [
    session("s1", { current: true, device: "computer", browser: "Firefox 142", os: "Linux" }),
    session("s2"),
  ],
  applications: [
    {
      clientId: "notes",
      name: "Notes",
      current: false,
      scopes: ["openid", "weird:scope"],
      allowedAt: now,
      lastUsedAt: null,
      expiresAt: null,
    },
  ],
  more: false,
  ...over,
});
const refusal = (code: string, retryable = false) => ({
  code,
  message: `It is ${code}.`,
  hint: null,
  retryable,
});

let listed: AccountView[];
let answer: (accountId: string) => unknown;
let calls: string[];

beforeEach(() => {
  calls = [];
  listed = [account("a1")];
  answer = (id) => view(id);
  sessions.clear();
  accounts.items = [];
  accounts.fresh = true;
  closeDialog();
  mockIPC((command, payload) => {
    const args = (payload ?? {}) as { accountId: string; sessionId?: string; clientId?: string };
    if (command === "list_accounts") return listed;
    calls.push([command, args.accountId, args.sessionId ?? args.clientId].filter(Boolean).join(" "));
    if (command === "list_sessions") return answer(args.accountId);
    if (command === "end_session" && args.sessionId === "gone") throw refusal("session_gone");
    if (command === "end_other_sessions") return { sessions: 1, accessEndsAt: null };
    if (command === "refresh_account") throw refusal("reauth_required");
    return null;
  });
});

describe("the page", () => {
  it("shows this device first and marked, with what was signed in through each", async () => {
    render(SessionsPage);
    const rows = await screen.findAllByTestId("session-row");
    expect(rows.map((row) => row.dataset.sessionId)).toEqual(["s1", "s2"]);
    const [first, second] = rows as [HTMLElement, HTMLElement];
    expect(within(first).getByTestId("session-current")).toHaveTextContent("This device");
    expect(within(second).queryByTestId("session-current")).toBeNull();
    expect(first).toHaveAccessibleName("Firefox 142 on Linux, this device");
    expect(within(second).getByTestId("session-methods")).toHaveTextContent("Password and one-time code");
    // Foreign text is text.
    expect(within(second).getByTestId("session-applications")).toHaveTextContent("<b>Notes</b>");
    expect(screen.getByTestId("application-scopes")).toHaveTextContent("know who you are, weird:scope");
    expect(screen.getByRole("status")).toHaveTextContent("2 sessions, 1 application with access");
    expect(screen.getByRole("button", { name: "End the session Safari 18 on iOS" })).toBeInTheDocument();
  });

  it("offers an account where there is none at a Keywright server, and asks no other provider", async () => {
    listed = [account("a1", { providerId: "openid" })];
    render(SessionsPage);
    await userEvent.click(await screen.findByTestId("add-keywright-account"));
    expect(dialog.request).toEqual({ kind: "sign-in", provider: "keywright" });
    expect(calls).toEqual([]);
  });

  it("says that there is nothing, and that there is more", async () => {
    answer = (id) => view(id, { sessions: [], applications: [], more: true });
    render(SessionsPage);
    expect(await screen.findByTestId("sessions-none")).toBeInTheDocument();
    expect(screen.getByTestId("applications-none")).toBeInTheDocument();
    expect(screen.getByTestId("sessions-more")).toBeInTheDocument();
    expect(screen.queryByTestId("end-other-sessions")).toBeNull();
  });

  it("shows an error with its way out, and keeps an old list beside a new error", async () => {
    answer = () => {
      throw refusal("network_error", true);
    };
    render(SessionsPage);
    expect(await screen.findByTestId("page-error")).toHaveAttribute("data-error-code", "network_error");
    expect(screen.queryByTestId("sessions-sign-in-again")).toBeNull();
    answer = (id) => view(id);
    await userEvent.click(screen.getByTestId("error-retry"));
    expect(await screen.findAllByTestId("session-row")).toHaveLength(2);
    answer = () => {
      throw refusal("sessions_not_allowed");
    };
    await userEvent.click(screen.getByTestId("reload-sessions"));
    expect(await screen.findByTestId("sessions-stale")).toHaveAttribute(
      "data-error-code",
      "sessions_not_allowed",
    );
    expect(screen.getAllByTestId("session-row")).toHaveLength(2);
    await userEvent.click(screen.getByTestId("sessions-sign-in-again"));
    expect(dialog.request).toMatchObject({ kind: "sign-in", account: { id: "a1" } });
  });

  it("asks nothing for an account that is signed out", async () => {
    listed = [account("a1", { status: "sign_in_needed" })];
    render(SessionsPage);
    expect(await screen.findByTestId("sessions-signed-out")).toBeInTheDocument();
    expect(calls).toEqual([]);
  });

  it("never shows one account's sessions under another's name", async () => {
    listed = [account("a1"), account("a2")];
    let release = (): void => undefined;
    answer = (id) =>
      id === "a1"
        ? new Promise((done) => (release = () => done(view("a1", { sessions: [session("late")] }))))
        : view("a2");
    render(SessionsPage);
    await userEvent.click(within(await screen.findByTestId("sessions-of-a2")).getByRole("radio"));
    expect(await screen.findAllByTestId("session-row")).toHaveLength(2);
    release();
    await new Promise((done) => setTimeout(done, 20));
    expect(screen.queryByText("late")).toBeNull();
    expect(screen.getAllByTestId("session-row").map((row) => row.dataset.sessionId)).toEqual(["s1", "s2"]);
  });

  it("opens the confirmation for one and for all others", async () => {
    render(SessionsPage);
    const rows = await screen.findAllByTestId("session-row");
    await userEvent.click(within(rows[1] as HTMLElement).getByTestId("end-session"));
    expect(dialog.request).toMatchObject({ kind: "end-access", what: { kind: "session" } });
    closeDialog();
    await userEvent.click(screen.getByTestId("end-other-sessions"));
    expect(dialog.request).toMatchObject({ what: { kind: "others", sessions: 1 } });
    expect(calls).toEqual(["list_sessions a1"]);
  });
});

describe("the confirmation", () => {
  it("ends nothing until it is confirmed, then loads again", async () => {
    const what = { kind: "session", session: session("s2") } as const;
    // As in the app: when it closes, what it was given goes with it.
    render(DialogHost);
    openDialog({ kind: "end-access", account: account("a1"), what });
    expect(await screen.findByTestId("end-access-dialog", {}, { timeout: 8000 })).toHaveTextContent(
      "That browser is signed out",
    );
    expect(calls).toEqual([]);
    await userEvent.click(screen.getByTestId("end-access-confirm"));
    await waitFor(() => expect(calls).toEqual(["end_session a1 s2", "list_sessions a1"]));
    expect(dialog.open).toBe(false);
  }, 15_000);

  it("says that this app goes with its own session, and finds out", async () => {
    const what = { kind: "session", session: session("s1", { current: true }) } as const;
    render(EndAccessDialog, { account: account("a1"), what });
    expect(screen.getByTestId("end-access-dialog")).toHaveTextContent("this app was signed in through");
    await userEvent.click(screen.getByTestId("end-access-confirm"));
    await waitFor(() => expect(calls.slice(0, 2)).toEqual(["end_session a1 s1", "refresh_account a1"]));
  });

  it("ends all others, and takes an application's access away", async () => {
    const { unmount } = render(EndAccessDialog, {
      account: account("a1"),
      what: { kind: "others", sessions: 3 },
    });
    expect(screen.getByTestId("end-access-dialog")).toHaveTextContent("3 other sessions will end");
    await userEvent.click(screen.getByTestId("end-access-confirm"));
    await waitFor(() => expect(calls).toContain("end_other_sessions a1"));
    unmount();
    const [application] = view("a1").applications;
    if (!application) throw new Error("no application");
    render(EndAccessDialog, { account: account("a1"), what: { kind: "application", application } });
    await userEvent.click(screen.getByTestId("end-access-confirm"));
    await waitFor(() => expect(calls).toContain("end_application a1 notes"));
  });

  it("stays open with the reason, and loads again what was old", async () => {
    const what = { kind: "session", session: session("gone") } as const;
    render(EndAccessDialog, { account: account("a1"), what });
    await userEvent.click(screen.getByTestId("end-access-confirm"));
    expect(await screen.findByTestId("form-error")).toHaveAttribute("data-error-code", "session_gone");
    expect(calls).toEqual(["end_session a1 gone", "list_sessions a1"]);
  });
});

describe("words", () => {
  it("name what is known and no more", () => {
    expect(sessionName(session("x"))).toBe("Safari 18 on iOS");
    expect(sessionName(session("x", { os: "unknown" }))).toBe("Safari 18");
    expect(sessionName(session("x", { browser: "", os: "" }))).toBe("An unknown browser");
    expect(sessionName(session("x", { browser: "a\u202eb", os: "" }))).toBe("a\ufffdb");
  });
  it("tell the ways of a sign-in once each", () => {
    expect(methodWords(["hwk", "pop", "user"])).toBe("Passkey");
    expect(methodWords(["pwd", "otp", "fed"])).toBe("Password, one-time code and another provider");
    expect(methodWords([])).toBe("Not told");
    expect(methodWords(["new_way"])).toBe("New_way");
  });
});
