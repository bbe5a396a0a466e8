// A pretended host for plain browsers: it answers the same calls as the app, from memory.
// Never part of the app's own build. `?mock=empty,many,hostile,keychain-locked,registry-damaged,slow,never,offline,keywright,traces,both-places,quiet,waiting`.
import { emit } from "@tauri-apps/api/event";
import { mockIPC } from "@tauri-apps/api/mocks";
import type { ApiKeyView, AuditListRequest, ErrorView, ScopeView, Settings } from "../lib/host";
import { MockAccounts, PRESETS } from "./accounts";
import { fail } from "./fail";
import { MockFlows } from "./flows";
import { MockKeys } from "./keys";
import { MockNotices } from "./notices";
import { MockRegistries } from "./registries";
import { MockSessions } from "./sessions";
import { makeWorld, VAULT_LOCKED, type World } from "./world";

/** The app's bundle must not contain this text; a test looks for it. */
export const MOCK_MARKER = "keywright-mock-host";

function listAudit(world: World, request: AuditListRequest) {
  const kinds = {
    all: null,
    api_keys: ["api_key"],
    accounts: ["account"],
    registry: ["registry", "scope", "settings"],
  }[request.subject];
  const text = request.text.toLowerCase();
  const rows = world.audit.filter(
    (event) =>
      (kinds === null || kinds.includes(event.targetKind)) &&
      `${event.summary} ${event.actor} ${event.action} ${event.targetName}`.toLowerCase().includes(text),
  );
  const start = Number(request.cursor ?? 0);
  const end = start + request.limit;
  return {
    items: structuredClone(rows.slice(start, end)),
    nextCursor: end < rows.length ? String(end) : null,
  };
}

function checkSettings(settings: Required<Settings>): void {
  const within = (value: number, min: number, max: number): boolean =>
    Number.isInteger(value) && value >= min && value <= max;
  if (!within(settings.signInTimeoutS, 30, 600))
    fail("settings_invalid", "A sign-in waits 30 to 600 seconds.");
  if (!within(settings.clipboardClearS, 5, 300))
    fail("settings_invalid", "The clipboard is cleared after 5 to 300 seconds.");
  if (settings.extraCaFile?.includes("missing"))
    fail("settings_invalid", "That file cannot be read.", "Check the path and its permissions.");
}

export function installMockHost(): void {
  const scenario = new Set(
    (new URLSearchParams(location.search).get("mock") ?? "").split(",").filter(Boolean),
  );
  const world = makeWorld(scenario);
  document.documentElement.dataset.host = MOCK_MARKER;

  const note = (
    action: string,
    kind: string,
    id: string,
    name: string,
    summary: string,
    details: Record<string, string> = {},
  ): void => {
    world.audit.unshift({
      sequence: (world.audit[0]?.sequence ?? 0) + 1,
      at: Date.now(),
      action,
      actor: "ada",
      targetKind: kind,
      targetId: id,
      targetName: name,
      summary,
      details: Object.entries(details).map(([name, value]) => ({ name, value })),
    });
  };
  const send = (event: string, payload: unknown = null): void => void emit(event, payload);
  const keys = new MockKeys(
    world,
    (action, key: ApiKeyView, summary, details) =>
      note(action, "api_key", key.id, key.name, summary, details),
    send,
  );
  const accounts = new MockAccounts(world, send, (action, account, summary) =>
    note(action, "account", account.id, account.displayName, summary),
  );

  const sessions = new MockSessions(world);
  const flows = new MockFlows(world);
  const notices = new MockNotices(world, send);
  const registries = new MockRegistries(world, () => accounts.list());

  const registry = () => ({
    path: "/home/ada/.local/share/keywright/registry.sqlite3",
    sizeBytes: 1_482_752,
    schemaVersion: 3,
    healthy: world.registryProblem === null,
    problem: world.registryProblem,
  });
  let away: ErrorView | null = null;
  const open = (): void => {
    if (world.registryProblem) throw world.registryProblem;
    if (away) throw away;
  };

  const keychain = () => ({
    storeName: world.vault === "absent" ? "Secret Service" : "Encrypted file",
    vault: world.vault,
    healthy: world.keychainProblem === null,
    problem: world.keychainProblem,
    tookMs: 18,
  });
  const pause = async <T>(answer: () => T): Promise<T> => {
    await new Promise((done) => setTimeout(done, 300));
    return answer();
  };

  let asked = false;
  const close = (): void => {
    const secrets = keys.waiting().length;
    if (secrets === 0 || asked) document.documentElement.dataset.closed = "true";
    else {
      asked = true;
      send("close-asked", { secrets, working: false });
    }
  };

  interface Args {
    request: never;
    settings: never;
    scope: ScopeView;
    id: string;
    accountId: string;
    keyId: string;
    sessionId: string;
    clientId: string;
    signInId: string;
    revealId: string;
    pastedUrl: string;
  }
  const answers: Record<string, (args: Args) => unknown> = {
    list_provider_presets: () => PRESETS,
    list_accounts: () => accounts.list(),
    sign_in: ({ request }) => accounts.signIn(request),
    cancel_sign_in: ({ signInId }) => accounts.cancel(signInId),
    reopen_browser: ({ signInId }) => accounts.touch(signInId),
    copy_sign_in_link: ({ signInId }) => accounts.touch(signInId),
    finish_sign_in: ({ signInId, pastedUrl }) => accounts.finish(signInId, pastedUrl),
    refresh_account: ({ accountId }) => accounts.refresh(accountId),
    sign_out: ({ accountId }) => accounts.signOut(accountId),
    list_notices: ({ request }) => (open(), notices.list(request)),
    mark_notice_read: ({ id }) => notices.read(Number(id)),
    mark_notices_read_until: ({ id }) => notices.readUntil(Number(id)),
    list_flows: () => flows.list(),
    list_flow_traces: () => flows.traces(),
    list_registries: () => registries.view(),
    registry_permissions: () => registries.permissions(),
    choose_registry: ({ accountId }) => registries.choose(accountId),
    retry_revocations: () => registries.view(),
    promote_keys: ({ request }) => registries.promote(request),
    discard_revocation: ({ keyId }) => registries.discard(keyId),
    list_sessions: ({ accountId }) => sessions.list(accountId),
    end_session: ({ sessionId }) => sessions.end(sessionId),
    end_other_sessions: () => sessions.endOthers(),
    end_application: ({ clientId }) => sessions.endApplication(clientId),
    list_api_keys: ({ request }) => (open(), keys.list(request)),
    count_api_keys: () => (open(), keys.counts()),
    find_api_key: ({ id }) => (open(), keys.find(id)),
    issue_api_key: ({ request }) => (open(), keys.issue(request)),
    rotate_api_key: ({ request }) => (open(), keys.rotate(request)),
    revoke_api_key: ({ request }) => (open(), keys.revoke(request)),
    disable_api_key: ({ request }) => (open(), keys.disable(request)),
    enable_api_key: ({ id }) => (open(), keys.enable(id)),
    step_rotation: ({ request }) => (open(), keys.step(request)),
    verify_api_key: ({ request }) => (open(), keys.verify(request)),
    reveal_secret: ({ revealId }) => keys.reveal(revealId),
    copy_secret: ({ revealId }) => keys.copy(revealId),
    deliver_secret: ({ request }) => keys.deliver(request),
    discard_secret: ({ revealId }) => keys.discard(revealId),
    list_waiting_secrets: () => keys.waiting(),
    close_question_shown: () => {
      asked = false;
      return null;
    },
    close_app: () => {
      document.documentElement.dataset.closed = "true";
      return null;
    },
    list_scopes: () => (open(), structuredClone(world.scopes)),
    define_scope: ({ scope }) => {
      open();
      world.scopes = [...world.scopes.filter((other) => other.name !== scope.name), scope];
      note("scope.defined", "scope", scope.name, scope.name, `Defined the scope ${scope.name}`);
      return scope;
    },
    list_audit_events: ({ request }) => (open(), listAudit(world, request)),
    app_info: () => ({
      version: "0.1.0",
      home: "/home/ada/.local/share/keywright",
      homeFromEnvironment: false,
      logFile: "/home/ada/.local/share/keywright/keywright.log",
      registry: registry(),
      firstPaintMs: 412,
      platform: "linux",
    }),
    read_settings: () => structuredClone(world.settings),
    update_settings: ({ settings }) => {
      checkSettings(settings);
      return structuredClone((world.settings = settings));
    },
    check_keychain: () => pause(keychain),
    create_vault: ({ request }) => {
      const { passphrase } = request as { passphrase: string };
      if (passphrase.length < 12)
        fail("vault_passphrase_too_short", "A passphrase has at least 12 characters.");
      Object.assign(world, { vault: "open", passphrase, keychainProblem: null });
      return pause(keychain);
    },
    unlock_vault: ({ request }) => {
      const { passphrase } = request as { passphrase: string };
      if (passphrase !== world.passphrase) {
        fail(
          "vault_wrong_passphrase",
          "That is not the passphrase of the encrypted file.",
          "Check the keyboard and try again in a moment.",
        );
      }
      Object.assign(world, { vault: "open", keychainProblem: null });
      return pause(keychain);
    },
    lock_vault: () => {
      Object.assign(world, { vault: "locked", keychainProblem: VAULT_LOCKED });
      return keychain();
    },
    retry_registry: async () => {
      await new Promise((done) => setTimeout(done, 300));
      if (scenario.has("registry-heals")) world.registryProblem = null;
      return registry();
    },
    window_painted: () => null,
  };

  mockIPC(
    async (command, payload) => {
      const answer = answers[command];
      if (!answer) return fail("unknown_command", `The mock host does not know “${command}”.`);
      if (scenario.has("slow")) await new Promise((done) => setTimeout(done, 900));
      // As over the real wire: plain data, both ways.
      const plain = (data: unknown): unknown =>
        data === undefined ? null : JSON.parse(JSON.stringify(data));
      return plain(await answer(plain(payload ?? {}) as Args));
    },
    { shouldMockEvents: true },
  );
  // Lets tests heal or break the pretended surroundings while the app runs.
  Object.assign(window, {
    mockHost: {
      keychain: (problem: ErrorView | null) => (world.keychainProblem = problem),
      registry: (problem: ErrorView | null) => (world.registryProblem = problem),
      /** What every question to the registry is answered with. */
      away: (problem: ErrorView | null) => (away = problem),
      notice: () => notices.arrive(),
      /** What the window's manager does: Alt+F4, the cross. */
      close,
    },
  });
}
