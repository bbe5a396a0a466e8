// A server answers late, an answer is lost, a choice fails: what is shown and sent is what was chosen and is so.
import { emit } from "@tauri-apps/api/event";
import { mockIPC } from "@tauri-apps/api/mocks";
import { render, screen, waitFor } from "@testing-library/svelte";
import userEvent from "@testing-library/user-event";
import { tick } from "svelte";
import { beforeEach, describe, expect, it } from "vitest";
import { accounts } from "../../src/lib/accounts.svelte";
import { closeDialog, dialog, openDialog } from "../../src/lib/dialogs.svelte";
import type {
  AccountView,
  ApiKeyDetailView,
  ApiKeyView,
  PromotionRequest,
  RegistryPermissionsView,
  RotateApiKeyRequest,
} from "../../src/lib/host";
import { keys } from "../../src/lib/keys.svelte";
import { registries } from "../../src/lib/registries.svelte";
import SearchInput from "../../src/components/SearchInput.svelte";
import KeyDetail from "../../src/pages/keys/KeyDetail.svelte";
import KeysPage from "../../src/pages/keys/KeysPage.svelte";
import PromoteDialog from "../../src/pages/keys/PromoteDialog.svelte";
import RegistryStrip from "../../src/pages/keys/RegistryStrip.svelte";
import RotateDialog from "../../src/pages/keys/RotateDialog.svelte";
import { keyView } from "./views";

const ALL: RegistryPermissionsView = { mayIssue: true, mayVerify: true, mayDefineScopes: true };
const NONE: RegistryPermissionsView = { mayIssue: false, mayVerify: false, mayDefineScopes: false };
const error = (code: string) => ({ code, message: `because of ${code}`, hint: null, retryable: false });
const account = (id: string, over: Partial<AccountView> = {}): AccountView => ({
  id,
  displayName: id,
  email: null,
  emailVerified: false,
  providerId: "keywright",
  providerName: "Keywright",
  issuer: `https://${id}.example.com`,
  subject: "u",
  clientId: "c",
  scopes: ["openid", "keys:*"],
  missingScopes: [],
  status: "signed_in",
  statusReason: null,
  accessToken: null,
  inKeychain: true,
  identityVerified: true,
  signedInAt: 0,
  lastRefreshedAt: null,
  clockOffsetMs: null,
  ...over,
});
const detail = (key: ApiKeyView): ApiKeyDetailView => ({
  key,
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
  rotation: null,
  secrets: [],
  activity: [],
  staleSince: null,
});
const page = (items: ApiKeyView[]) => ({
  items,
  nextCursor: null,
  total: items.length,
  totalIsEstimate: false,
  staleSince: null,
});
function hold<T>() {
  let release: (value: T) => void = () => undefined;
  let refuse: (why: unknown) => void = () => undefined;
  const answer = new Promise<T>((done, failed) => ([release, refuse] = [done, failed]));
  return { answer, release: (value: T) => release(value), refuse: (why: unknown) => refuse(why) };
}

let current: string | null;
let status: AccountView["status"];
let answers: Record<string, (payload: unknown) => unknown>;
let asked: string[];

beforeEach(async () => {
  [current, status, asked] = [null, "signed_in", []];
  answers = {
    list_registries: () => ({
      current,
      servers: ["a1", "a2"].map((id) => ({
        accountId: id,
        accountName: id,
        issuer: `https://${id}.example.com`,
        mayRead: true,
        mayWrite: true,
        offlineSince: null,
        queuedRevocations: [],
      })),
      signedOut: [],
    }),
    choose_registry: (payload) => {
      current = (payload as { accountId: string | null }).accountId;
      return answers.list_registries?.(null);
    },
    registry_permissions: () => ALL,
    list_accounts: () => [account("a1", { status }), account("a2")],
    list_api_keys: () => page([]),
    count_api_keys: () => ({
      all: 1,
      live: 1,
      rotating: 0,
      expiring: 0,
      expired: 0,
      disabled: 0,
      revoked: 0,
    }),
    list_notices: () => ({ items: [], nextCursor: null, unread: 0, staleSince: null }),
  };
  mockIPC(
    (command, payload) => {
      asked.push(command);
      return answers[command]?.(payload) ?? null;
    },
    { shouldMockEvents: true },
  );
  closeDialog();
  keys.rows = [];
  await accounts.load();
  await registries.load();
  asked = [];
});
const times = (command: string): number => asked.filter((one) => one === command).length;
const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

describe("what is allowed", () => {
  it("is not asked in a circle where asking changes the account", async () => {
    const { events } = await import("../../src/lib/host");
    const off = await events.accountsChanged.listen(() => void registries.follow());
    current = "a1";
    answers.registry_permissions = async () => {
      await pause(1); // as over a wire: a circle leaves time for the test to end
      status = "sign_in_needed";
      void emit("accounts-changed", null);
      throw error("reauth_required");
    };
    await registries.load();
    await pause(300);
    expect(times("registry_permissions")).toBeLessThanOrEqual(2);
    expect(registries.unsaid?.code).toBe("reauth_required");
    // Signed in again: then it is.
    answers.registry_permissions = () => ALL;
    status = "signed_in";
    await emit("accounts-changed", null);
    await waitFor(() => expect(registries.mayIssue).toBe(true));
    off();
  });

  it("is asked one at a time, and once more for what came meanwhile", async () => {
    current = "a1";
    await registries.load();
    asked = [];
    const gate = hold<RegistryPermissionsView>();
    answers.registry_permissions = () => gate.answer;
    const all = [registries.ask(), registries.ask(), registries.ask()];
    await pause(20);
    expect(times("registry_permissions")).toBe(1);
    answers.registry_permissions = () => NONE;
    gate.release(ALL);
    await Promise.all(all);
    expect(times("registry_permissions")).toBe(2);
    expect(registries.mayIssue).toBe(false);
  });

  it("comes with the role when the list is asked for again", async () => {
    answers.registry_permissions = () => NONE;
    await registries.choose("a1");
    render(KeysPage);
    await waitFor(() => expect(screen.getByTestId("reload-keys")).toBeEnabled());
    expect(screen.queryByTestId("issue-key")).toBeNull();
    answers.registry_permissions = () => ALL;
    await userEvent.click(screen.getByTestId("reload-keys"));
    expect(await screen.findByTestId("issue-key")).toBeVisible();
  });

  it("is nothing of the registry before while the next one is slow", async () => {
    expect(registries.mayIssue).toBe(true);
    const gate = hold<unknown>();
    answers.list_api_keys = () => gate.answer;
    answers.registry_permissions = () => hold<unknown>().answer;
    void registries.choose("a1");
    await waitFor(() => expect(registries.server?.accountId).toBe("a1"));
    expect(registries.mayIssue || registries.mayVerify || registries.mayDefineScopes).toBe(false);
    expect(times("registry_permissions")).toBe(1);
    gate.release(page([]));
  });
});

describe("a choice", () => {
  it("that failed is not shown as made", async () => {
    render(RegistryStrip);
    const device = screen.getByRole("radio", { name: "This device" });
    const server = screen.getByRole("radio", { name: /a1\.example\.com/ });
    expect(device).toBeChecked();
    answers.choose_registry = () => {
      throw error("extra_ca_invalid");
    };
    await userEvent.click(server);
    await waitFor(() => expect(device).toBeChecked());
    expect(server).not.toBeChecked();
    // Clicked once more, it is asked for once more.
    answers.choose_registry = () => {
      current = "a1";
      return answers.list_registries?.(null);
    };
    await userEvent.click(server);
    await waitFor(() => expect(server).toBeChecked());
    expect(device).not.toBeChecked();
  });

  it("of a search that is made elsewhere stands in its field, and typing goes on", async () => {
    const said: string[] = [];
    const onsearch = (text: string) => said.push(text);
    const props = { label: "Search", placeholder: "", onsearch, testid: "search" };
    const { rerender } = render(SearchInput, { value: "", ...props });
    const field = screen.getByTestId("search");
    await userEvent.type(field, "abc");
    await waitFor(() => expect(said).toEqual(["abc"]));
    await userEvent.type(field, "d");
    await rerender({ value: "abc", ...props });
    expect(field).toHaveValue("abcd");
    await waitFor(() => expect(said).toEqual(["abc", "abcd"]));
    await rerender({ value: "abcd", ...props });
    await rerender({ value: "", ...props });
    await waitFor(() => expect(field).toHaveValue(""));
  });
});

describe("an open key", () => {
  const active = keyView({ id: "k1" });
  const revoked = keyView({ id: "k1", state: "revoked", revokedAt: 1 });
  const state = () => screen.getByTestId("detail-state").dataset.state;

  it("takes the answer to the newer question", async () => {
    const gates = [hold<ApiKeyDetailView>(), hold<ApiKeyDetailView>()];
    let n = 0;
    answers.find_api_key = () => gates[n++]?.answer;
    keys.rows = [active];
    render(KeyDetail, { id: "k1", onclose: () => undefined });
    await waitFor(() => expect(n).toBe(1));
    keys.rows = [revoked];
    await waitFor(() => expect(n).toBe(2));
    gates[1]?.release(detail(revoked));
    await waitFor(() => expect(state()).toBe("revoked"));
    gates[0]?.release(detail(active));
    await pause(20);
    expect(state()).toBe("revoked");
  });

  it("shows what was changed, and says why the rest is old", async () => {
    answers.find_api_key = () => detail(active);
    keys.rows = [active];
    render(KeyDetail, { id: "k1", onclose: () => undefined });
    await screen.findByTestId("key-history");
    answers.find_api_key = () => {
      throw error("rate_limited");
    };
    keys.patch(revoked);
    await waitFor(() => expect(state()).toBe("revoked"));
    expect(screen.getByTestId("revoke-key")).toBeDisabled();
    expect(await screen.findByTestId("detail-error")).toHaveAttribute("data-error-code", "rate_limited");
    answers.find_api_key = () => detail(revoked);
    await userEvent.click(screen.getByTestId("detail-retry"));
    await waitFor(() => expect(screen.queryByTestId("detail-error")).toBeNull());
  });
});

describe("a move", () => {
  const rows = ["k1", "k2", "k3"].map((id) => keyView({ id, name: id }));
  const moved = (ids: string[], dryRun: boolean) => ({
    dryRun,
    moved: ids.map((keyId) => ({ keyId, name: keyId })),
    refused: [],
    inBothPlaces: [],
    problem: null,
  });
  let sent: PromotionRequest[];

  beforeEach(() => {
    sent = [];
    answers.list_api_keys = () => page(rows);
  });
  const open = async () => {
    openDialog({ kind: "promote-keys" });
    render(PromoteDialog);
    await screen.findAllByTestId("promote-key");
  };

  it("is of what was checked, at the server that checked it", async () => {
    const gate = hold<unknown>();
    answers.promote_keys = (payload) => {
      const { request } = payload as { request: PromotionRequest };
      sent.push(request);
      return request.dryRun ? gate.answer : moved(request.keyIds, false);
    };
    await open();
    await userEvent.click(screen.getByTestId("promote-check"));
    await waitFor(() => expect(sent).toHaveLength(1));
    // While the server is asked, nothing else can be chosen; and if it could, it would not move.
    expect(screen.getByTestId("promote-choose")).toBeDisabled();
    for (const radio of screen.getAllByRole("radio")) expect(radio).toBeDisabled();
    for (const box of screen.getAllByRole("checkbox")) {
      expect(box).toBeDisabled();
      (box as HTMLInputElement).disabled = false;
      (box as HTMLInputElement).click();
    }
    await tick();
    gate.release(moved(["k1", "k3"], true)); // the server does not take the second
    await userEvent.click(await screen.findByTestId("promote-submit"));
    await screen.findByTestId("promote-done");
    expect(sent[1]).toEqual({ accountId: "a1", keyIds: ["k1", "k3"], dryRun: false });
  });

  it("of nothing leads back to the choice", async () => {
    answers.promote_keys = () => moved([], true);
    await open();
    await userEvent.click(screen.getByTestId("promote-check"));
    expect(await screen.findByTestId("promote-submit")).toBeDisabled();
    await userEvent.click(screen.getByTestId("promote-back"));
    expect(await screen.findAllByTestId("promote-key")).toHaveLength(3);
    expect(screen.getByTestId("promote-check")).toBeEnabled();
  });

  it("goes on with what this device could not note", async () => {
    answers.promote_keys = (payload) => {
      const { request } = payload as { request: PromotionRequest };
      sent.push(request);
      if (request.dryRun) return moved(request.keyIds, true);
      if (sent.length > 2) return moved(request.keyIds, false);
      return {
        ...moved(["k1"], false),
        inBothPlaces: [
          { keyId: "k2", name: "k2", code: "registry_locked", message: "the file is locked" },
          { keyId: "k3", name: "k3", code: "key_revoked", message: "" },
        ],
        problem: error("registry_locked"),
      };
    };
    await open();
    await userEvent.click(screen.getByTestId("promote-check"));
    await userEvent.click(await screen.findByTestId("promote-submit"));
    expect(await screen.findByTestId("promote-in-both-places")).toHaveTextContent("the file is locked");
    await userEvent.click(screen.getByTestId("promote-go-on"));
    await waitFor(() => expect(screen.getByTestId("promote-moved").dataset.count).toBe("2"));
    expect(sent[2]?.keyIds).toEqual(["k2"]);
    expect(screen.getByTestId("promote-in-both-places").children).toHaveLength(1);
  });
});

describe("a rotation", () => {
  let sent: RotateApiKeyRequest[];
  let refusal: string;

  beforeEach(() => {
    [sent, refusal] = [[], "registry_offline"];
    answers.rotate_api_key = (payload) => {
      sent.push((payload as { request: RotateApiKeyRequest }).request);
      throw error(refusal);
    };
    openDialog({ kind: "rotate-key", key: keyView() });
    render(RotateDialog, { apiKey: keyView() });
  });
  const rotate = async () => {
    const before = sent.length;
    await userEvent.click(screen.getByTestId("rotate-submit"));
    await waitFor(() => expect(sent).toHaveLength(before + 1));
    await waitFor(() => expect(screen.getByTestId("rotate-submit")).toBeEnabled());
  };

  it("with other terms has another name, and with the same ones the same", async () => {
    await rotate();
    await rotate();
    await userEvent.click(screen.getByTestId("rotate-overlap-0").querySelector("input") as HTMLElement);
    await rotate();
    expect(sent[1]?.idempotencyKey).toBe(sent[0]?.idempotencyKey);
    expect(sent[2]?.overlapMs).toBe(0);
    expect(sent[2]?.idempotencyKey).not.toBe(sent[0]?.idempotencyKey);
  });

  it("without an answer keeps its terms, and is not left without a word", async () => {
    refusal = "commit_unknown";
    await rotate();
    for (const radio of screen.getAllByRole("radio")) expect(radio).toBeDisabled();
    expect(screen.getByTestId("form-error")).toHaveTextContent("same secret");
    refusal = "registry_offline"; // which tells nothing of the first try
    await rotate();
    for (const radio of screen.getAllByRole("radio")) expect(radio).toBeDisabled();
    expect(sent[1]).toEqual(sent[0]);
    await userEvent.click(screen.getByTestId("rotate-cancel"));
    expect(screen.getByTestId("rotate-nudge")).toBeVisible();
    expect(dialog.open).toBe(true);
    await userEvent.click(screen.getByTestId("rotate-cancel"));
    expect(dialog.open).toBe(false);
  });

  it.each([
    "rotation_already_done",
    "rotation_in_progress",
    "policy_violation",
    "reason_required",
    "reason_too_long",
    "invalid_character",
    "changed_meanwhile",
    "out_of_bounds",
    "key_revoked",
  ])("that the registry knows the outcome of (%s) is followed by another", async (code) => {
    refusal = "commit_unknown";
    await rotate();
    refusal = code;
    await rotate();
    expect(screen.getAllByRole("radio")[0]).toBeEnabled();
    await rotate();
    expect(sent[2]?.idempotencyKey).not.toBe(sent[1]?.idempotencyKey);
  });
});
