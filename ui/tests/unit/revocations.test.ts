// AC-152: a key that was to be revoked and still works is told wherever one is, and before a sign-out.
import { mockIPC } from "@tauri-apps/api/mocks";
import { render, screen, waitFor } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { beforeEach, expect, it } from "vitest";
import { closeDialog, dialog } from "../../src/lib/dialogs.svelte";
import type { AccountView, QueuedRevocationView, RegistriesView } from "../../src/lib/host";
import { registries } from "../../src/lib/registries.svelte";
import { go } from "../../src/lib/router.svelte";
import SignOutDialog from "../../src/pages/accounts/SignOutDialog.svelte";
import { SignInDraft } from "../../src/pages/accounts/sign-in.svelte";
import RevocationBanner from "../../src/shell/RevocationBanner.svelte";

const waits = (name: string, refused: QueuedRevocationView["refused"] = null): QueuedRevocationView => ({
  keyId: `id of ${name}`,
  name,
  reason: "leaked",
  queuedAt: 0,
  refused,
});
const ada = { id: "a1", displayName: "Ada", issuer: "https://kw.example.com" } as AccountView;

let view: RegistriesView;
const wait = (waiting: QueuedRevocationView[]): void => {
  view = { ...view, servers: view.servers.map((one) => ({ ...one, queuedRevocations: waiting })) };
};
const asked: string[] = [];

beforeEach(() => {
  go("accounts");
  closeDialog();
  asked.length = 0;
  view = {
    current: null,
    servers: [
      {
        accountId: "a1",
        accountName: "ada",
        issuer: "https://kw.example.com",
        mayRead: true,
        mayWrite: true,
        offlineSince: null,
        queuedRevocations: [],
      },
    ],
    signedOut: [],
  };
  mockIPC((command, payload) => {
    const { accountId, id } = (payload ?? {}) as { accountId?: string; id?: string };
    asked.push(`${command} ${accountId ?? id ?? ""}`.trim());
    if (command === "list_registries") return view;
    if (command === "choose_registry") return (view = { ...view, current: accountId ?? null });
    if (command === "forget_revocations") return (view = { ...view, signedOut: [] });
    if (command === "registry_permissions") return { mayIssue: true, mayVerify: true, mayDefineScopes: true };
    return null;
  });
});

const text = (id: string): string => screen.getByTestId(id).textContent.replaceAll(/\s+/g, " ");

it("ac_152 what waits for a server is told while another registry is in use", async () => {
  const refusal = { code: "insufficient_scope", message: "no", hint: null, retryable: true };
  wait([waits("Billing"), waits("Backups", refusal)]);
  await registries.load();
  render(RevocationBanner);
  expect(text("revocations-elsewhere")).toContain("2 revocations not yet effective at kw.example.com");
  expect(text("revocations-elsewhere")).toContain("“Billing”, “Backups” work until then");
  expect(text("revocations-elsewhere")).toContain("The server refused 1");
  await userEvent.click(screen.getByTestId("revocations-look"));
  expect(asked).toContain("choose_registry a1");
  // There the page itself names them.
  await waitFor(() => expect(screen.queryByTestId("revocations-elsewhere")).toBeNull());
  go("activity");
  await waitFor(() => expect(screen.getByTestId("revocations-elsewhere")).toBeVisible());
});

it("ac_152 what waits for a server that nobody is signed in to is told, and leads back there", async () => {
  const server = { id: "f1", accountName: "ada@example.com", issuer: "https://kw.example.com" };
  view.signedOut = [{ ...server, queuedRevocations: [waits("Billing")] }];
  await registries.load();
  render(RevocationBanner);
  expect(text("revocations-signed-out")).toContain("ada@example.com is signed out there");
  expect(text("revocations-signed-out")).toContain("“Billing” works until then");
  await userEvent.click(screen.getByTestId("revocations-sign-in"));
  const request = dialog.request;
  if (request?.kind !== "sign-in") throw new Error("no sign-in");
  const draft = new SignInDraft(request.account, request.provider, request.issuer);
  expect([draft.providerId, draft.issuer]).toEqual(["keywright", "https://kw.example.com"]);
  await userEvent.click(screen.getByTestId("revocations-forget"));
  await waitFor(() => expect(screen.queryByTestId("revocations-signed-out")).toBeNull());
  expect(asked).toContain("forget_revocations f1");
});

it("ac_152 signing out names what would not be carried out", async () => {
  await registries.load();
  const { unmount } = render(SignOutDialog, { account: ada });
  expect(screen.queryByTestId("sign-out-waiting")).toBeNull();
  expect(screen.getByTestId("sign-out-confirm")).toHaveTextContent("Sign out");
  unmount();
  wait([waits("Billing")]);
  await registries.load();
  render(SignOutDialog, { account: ada });
  expect(text("sign-out-waiting")).toContain("this key works until you sign in there again");
  expect(text("sign-out-waiting")).toContain("Billing");
  expect(screen.getByTestId("sign-out-confirm")).toHaveTextContent("Sign out anyway");
});
