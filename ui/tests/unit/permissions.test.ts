// AC-158: what a role does not allow is not offered, and being refused is survived.
import { mockIPC } from "@tauri-apps/api/mocks";
import { cleanup, render, screen, waitFor } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it, vi } from "vitest";
import { closeDialog, dialog } from "../../src/lib/dialogs.svelte";
import type { ApiKeyDetailView, ApiKeyView, RegistryPermissionsView, RotationView } from "../../src/lib/host";
import { keys } from "../../src/lib/keys.svelte";
import { registries } from "../../src/lib/registries.svelte";
import { onShortcut } from "../../src/lib/shortcuts.svelte";
import KeyDetail from "../../src/pages/keys/KeyDetail.svelte";
import RegistryStrip from "../../src/pages/keys/RegistryStrip.svelte";
import ScopePicker from "../../src/pages/keys/ScopePicker.svelte";
import SuspendDialog from "../../src/pages/keys/SuspendDialog.svelte";
import { entries } from "../../src/shell/palette.svelte";
import { keyView } from "./views";

const key = (over: Partial<ApiKeyView> = {}): ApiKeyView =>
  keyView({ id: "k1", scopes: ["invoices:read"], state: "rotating", ...over });
const rotation: RotationView = {
  id: "r1",
  state: "pending",
  clock: "from_first_use",
  overlapMs: 86_400_000,
  silentMs: null,
  createdAt: Date.now(),
  pendingUntil: null,
  oldSecretWorksUntil: null,
};
const detail = (of: ApiKeyView): ApiKeyDetailView => ({
  key: of,
  settings: {
    environment: "live",
    owner: null,
    notBefore: null,
    disabledAt: null,
    disabledReason: null,
    tags: [],
    note: "",
    limits: [],
    networks: [],
    origins: [],
    credits: null,
    oneTime: false,
  },
  rotation,
  secrets: [],
  activity: [],
  staleSince: null,
});
const ALL: RegistryPermissionsView = { mayIssue: true, mayVerify: true, mayDefineScopes: true };
const NONE: RegistryPermissionsView = { mayIssue: false, mayVerify: false, mayDefineScopes: false };

let current: string | null;
let mayWrite: boolean;
let may: RegistryPermissionsView | Error;
let shown: ApiKeyView;

beforeEach(() => {
  [current, mayWrite, may, shown] = ["a1", true, ALL, key()];
  closeDialog();
  keys.rows = [];
  mockIPC((command) => {
    if (command === "list_registries") {
      const server = {
        accountId: "a1",
        accountName: "ada",
        issuer: "https://id.example.com",
        mayRead: true,
        mayWrite,
        offlineSince: null,
        queuedRevocations: [],
      };
      return { current, servers: [server], signedOut: [] };
    }
    if (command === "registry_permissions") {
      if (may instanceof Error) throw may;
      return may;
    }
    if (command === "find_api_key") return detail(shown);
    if (command === "list_scopes") return [];
    if (command === "disable_api_key")
      throw {
        code: "insufficient_scope",
        message: "The server does not allow this.",
        hint: null,
        retryable: false,
      };
    return null;
  });
});

const press = (letter: string): void => onShortcut(new KeyboardEvent("keydown", { key: letter }));
const actions = (): string[] => entries().map((entry) => entry.id);

it("what the role allows is offered", async () => {
  await registries.load();
  expect(actions()).toEqual(expect.arrayContaining(["issue", "verify"]));
  press("n");
  expect(dialog.request).toEqual({ kind: "issue-key" });
  render(KeyDetail, { id: "k1", onclose: () => undefined });
  await screen.findByTestId("rotation-panel");
  for (const id of ["rotate-key", "suspend-key", "revoke-key", "detail-verify", "rotation-cancel"])
    expect(screen.getByTestId(id), id).toBeEnabled();
  expect(screen.queryByTestId("not-allowed")).toBeNull();
});

it("what the role does not allow is not, by no way there is", async () => {
  may = NONE;
  await registries.load();
  expect(actions()).not.toContain("issue");
  expect(actions()).not.toContain("verify");
  for (const letter of ["n", "v"]) press(letter);
  expect(dialog.request).toBeNull();
  render(ScopePicker, { value: [], lowRiskOnly: false });
  await userEvent.type(screen.getByTestId("key-scopes"), "ledger:write");
  expect(screen.queryByTestId("scope-define")).toBeNull();
});

it("a key of somebody else can be seen, not changed, and the reason is there", async () => {
  shown = key({ mayChange: false });
  await registries.load();
  render(KeyDetail, { id: "k1", onclose: () => undefined });
  await screen.findByTestId("rotation-panel");
  for (const id of ["rotate-key", "suspend-key", "revoke-key", "rotation-cancel"])
    expect(screen.getByTestId(id), id).toBeDisabled();
  expect(screen.getByTestId("not-allowed")).toHaveTextContent("Your role at id.example.com");
});

it("a sign-in for reading only says that it is one", async () => {
  mayWrite = false;
  await registries.load();
  expect(registries.mayIssue).toBe(false);
  render(KeyDetail, { id: "k1", onclose: () => undefined });
  await waitFor(() => expect(screen.getByTestId("revoke-key")).toBeDisabled());
  expect(screen.getByTestId("not-allowed")).toHaveTextContent("for reading only");
});

it("on this device everything is offered, whatever a server said before", async () => {
  may = NONE;
  await registries.load();
  expect(registries.mayIssue).toBe(false);
  current = null;
  await registries.load();
  expect(registries.mayIssue && registries.mayVerify && registries.mayDefineScopes).toBe(true);
});

const problem = (code: string, retryable: boolean): Error =>
  Object.assign(new Error(), { code, message: `because of ${code}`, hint: null, retryable });

it("a server that refuses to say offers nothing, and the reason and the way out are there", async () => {
  may = problem("reauth_required", false);
  shown = key({ mayChange: false });
  await registries.load();
  expect(registries.mayIssue || registries.mayVerify || registries.mayDefineScopes).toBe(false);
  expect(actions()).not.toContain("issue");
  keys.error = null;
  render(RegistryStrip);
  const told = screen.getByTestId("permissions-unsaid");
  expect(told).toHaveTextContent("because of reauth_required");
  expect(screen.getByTestId("unsaid-retry")).toBeVisible();
  cleanup();
  render(KeyDetail, { id: "k1", onclose: () => undefined });
  await screen.findByTestId("rotation-panel");
  expect(screen.getByTestId("not-allowed")).toHaveTextContent("id.example.com does not say what you may do");
  // Once it says so, it is offered.
  may = ALL;
  await registries.load();
  expect(registries.mayIssue).toBe(true);
  expect(registries.unsaid).toBeNull();
});

it("one that is away is asked again by itself, and a refusal is shown where something was asked", async () => {
  vi.useFakeTimers();
  may = problem("registry_offline", true);
  await registries.load();
  expect(registries.mayIssue).toBe(false);
  may = ALL;
  await vi.advanceTimersByTimeAsync(10_000);
  vi.useRealTimers();
  expect(registries.mayIssue).toBe(true);
  render(SuspendDialog, { apiKey: key({ state: "active" }) });
  await userEvent.click(screen.getByTestId("suspend-submit"));
  expect(await screen.findByTestId("form-error")).toHaveAttribute("data-error-code", "insufficient_scope");
});
