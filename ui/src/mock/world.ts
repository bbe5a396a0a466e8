// The pretended registry's content: keys with secrets, scopes, activity, accounts.
import type {
  AccountView,
  ApiKeySettingsView,
  ApiKeyState,
  ApiKeyView,
  AuditEventView,
  ErrorView,
  RotationView,
  ScopeView,
  SecretView,
  Settings,
  VaultState,
} from "../lib/host";
import { base62, pick, seeded } from "./random";

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export interface MockKey {
  view: ApiKeyView;
  settings: ApiKeySettingsView;
  rotation: RotationView | null;
  secrets: SecretView[];
}

export interface World {
  scenario: Set<string>;
  keys: MockKey[];
  scopes: ScopeView[];
  audit: AuditEventView[];
  accounts: AccountView[];
  settings: Required<Settings>;
  registryProblem: ErrorView | null;
  keychainProblem: ErrorView | null;
  vault: VaultState;
  passphrase: string;
}

const NAMES = [
  "Billing service",
  "Checkout",
  "Invoice mailer",
  "Nightly export",
  "Grafana",
  "Mobile gateway",
  "Search indexer",
  "Partner: Northwind",
  "Partner: Tailspin",
  "Webhook relay",
  "Data warehouse",
  "CI pipeline",
  "Status page",
  "Support console",
  "Fraud scoring",
  "Geo lookup",
  "Push sender",
  "Backup runner",
  "Storefront",
  "Feature flags",
];
const PLACES = [
  "production",
  "staging",
  "Frankfurt",
  "Virginia",
  "blue",
  "green",
  "v2",
  "load test",
  "on-call",
];
const SCOPES: [string, string, boolean][] = [
  ["catalog:read", "Read products and prices", true],
  ["customers:read", "Read customers", false],
  ["customers:write", "Create and change customers", false],
  ["events:write", "Send usage events", true],
  ["invoices:read", "Read invoices", false],
  ["invoices:write", "Create and void invoices", false],
  ["payments:refund", "Refund payments", false],
  ["reports:read", "Read reports", false],
  ["status:read", "Read the public status", true],
  ["webhooks:write", "Change webhook targets", false],
];

/** The settings of a key that nobody asked anything special for. */
export const plainSettings = (prefix: string): ApiKeySettingsView => ({
  environment: prefix.endsWith("_test") ? "test" : "live",
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
});

/** A few keys have every setting there is. */
const richSettings = (prefix: string, now: number): ApiKeySettingsView => ({
  ...plainSettings(prefix),
  environment: "staging",
  owner: "service:billing",
  notBefore: now - 3 * DAY,
  tags: ["billing", "team:core"],
  note: "Used by the nightly run.\nAsk the core team before ending it.",
  limits: [{ name: "requests", count: 600, periodMs: MINUTE, burst: 50, sharedByOwner: false }],
  networks: ["192.0.2.0/24", "2001:db8::/48"],
  origins: ["https://app.example.org"],
  credits: 250_000,
});

export function makeKey(
  random: () => number,
  index: number,
  now: number,
  name: string,
  state: ApiKeyState,
): MockKey {
  const prefix = pick(random, ["sk_live", "sk_live", "sk_live", "sk_test", "pk_live", "acme_live"]);
  const pool = prefix.startsWith("pk_") ? SCOPES.filter((scope) => scope[2]) : SCOPES;
  const scopes = [
    ...new Set(Array.from({ length: 1 + Math.floor(random() * 4) }, () => pick(random, pool)[0])),
  ].sort();
  const createdAt = now - Math.floor((2 + random() * 300) * DAY);
  const used = random() < 0.86;
  const lastUsedAt = used ? now - Math.floor(random() ** 4 * 40 * DAY) - 20 * SECOND : null;
  const life = pick(random, [12, 45, 90, 200, 365]) * DAY;
  const expiresAt =
    state === "expired"
      ? now - Math.floor(random() * 60 * DAY) - HOUR
      : now + Math.floor(life * (0.2 + random() * 0.8));
  const secret = (over: Partial<SecretView>): SecretView => ({
    kid: base62(random, 12),
    lastFour: base62(random, 4),
    state: "active",
    createdAt,
    expiresAt,
    retiresAt: null,
    firstUsedAt: used ? createdAt + HOUR : null,
    lastUsedAt,
    useCount: used ? Math.floor(random() * 90_000) + 1 : 0,
    ...over,
  });
  const revokedAt = state === "revoked" ? now - Math.floor(random() * 20 * DAY) - MINUTE : null;
  const retiresAt = now + Math.floor((0.02 + random()) * 30 * HOUR);
  const secrets: SecretView[] =
    state === "rotating"
      ? [
          secret({
            state: "pending",
            createdAt: now - 3 * HOUR,
            firstUsedAt: null,
            lastUsedAt: null,
            useCount: 0,
          }),
          secret({ state: "retiring", retiresAt }),
          secret({ state: "retired", createdAt: createdAt - 90 * DAY, retiresAt: createdAt + DAY }),
        ]
      : [secret({ state: state === "disabled" ? "active" : state })];
  const newest = secrets[0] as SecretView;
  const settings = index % 7 === 3 ? richSettings(prefix, now) : plainSettings(prefix);
  if (state === "disabled")
    Object.assign(settings, { disabledAt: now - 2 * HOUR, disabledReason: "Waiting for the audit" });
  const rotation: RotationView | null =
    state === "rotating"
      ? {
          id: `rotation_${index}`,
          state: "pending",
          clock: "from_issue",
          overlapMs: DAY,
          silentMs: null,
          createdAt: now - 3 * HOUR,
          oldSecretWorksUntil: retiresAt,
          pendingUntil: null,
        }
      : null;
  return {
    secrets,
    settings,
    rotation,
    view: {
      id: `key_${String(index).padStart(6, "0")}`,
      name,
      prefix,
      scopes,
      state,
      kid: newest.kid,
      lastFour: newest.lastFour,
      createdAt,
      expiresAt: newest.expiresAt,
      oldSecretWorksUntil: state === "rotating" ? retiresAt : null,
      lastUsedAt,
      revokedAt,
      revokedReason: revokedAt ? "Found in a public repository" : null,
      revocationQueuedAt: null,
      movedTo: null,
      mayChange: true,
    },
  };
}

function makeKeys(random: () => number, count: number, now: number): MockKey[] {
  return Array.from({ length: count }, (_, index) => {
    const roll = random();
    const state: ApiKeyState =
      index === 4
        ? "disabled"
        : index === 1 || roll < 0.08
          ? "rotating"
          : roll < 0.18
            ? "expired"
            : roll < 0.28
              ? "revoked"
              : "active";
    const suffix = count > 100 ? ` ${index + 1}` : "";
    const name =
      index < NAMES.length
        ? `${NAMES[index]}${suffix}`
        : `${pick(random, NAMES)}, ${pick(random, PLACES)}${suffix}`;
    return makeKey(random, index, now, name, state);
  });
}

function hostileKeys(random: () => number, now: number): MockKey[] {
  return [
    "<img src=x onerror=alert(1)><b>bold?</b>",
    "safe\u202egnp.exe\u202c and \u0007bell\u0000nul",
    "שלום עולם, مرحبا بالعالم",
    "very long ".repeat(1000),
  ].map((name, index) => makeKey(random, 900_000 + index, now, name, "active"));
}

function makeAudit(random: () => number, keys: MockKey[], now: number): AuditEventView[] {
  const events: Omit<AuditEventView, "sequence">[] = [];
  for (const { view } of keys.slice(0, 400)) {
    const about = { actor: "ada", targetKind: "api_key", targetId: view.id, targetName: view.name };
    events.push({
      ...about,
      at: view.createdAt,
      action: "api_key.issued",
      summary: `Issued “${view.name}” with ${view.scopes.length} scopes`,
      details: [
        { name: "scopes", value: view.scopes.join(" ") },
        { name: "kid", value: view.kid },
      ],
    });
    if (view.state === "rotating")
      events.push({
        ...about,
        at: now - 3 * HOUR,
        action: "api_key.rotated",
        summary: `Rotated “${view.name}”, overlap 24 hours`,
        details: [
          { name: "overlap", value: "24 hours" },
          { name: "kid", value: view.kid },
        ],
      });
    if (view.revokedAt)
      events.push({
        ...about,
        at: view.revokedAt,
        action: "api_key.revoked",
        summary: `Revoked “${view.name}”`,
        details: [{ name: "reason", value: view.revokedReason ?? "" }],
      });
  }
  for (let i = 0; i < 24; i++) {
    events.push({
      at: now - Math.floor(random() * 30 * DAY),
      action: i % 5 === 4 ? "account.sign_in_failed" : "account.signed_in",
      actor: "ada",
      targetKind: "account",
      targetId: "acc_1",
      targetName: "Ada Lovelace",
      summary:
        i % 5 === 4
          ? "Sign-in of “Ada Lovelace” failed: you declined access"
          : "“Ada Lovelace” signed in with Example Login",
      details: [{ name: "issuer", value: "https://login.example.com" }],
    });
  }
  events.push({
    at: now - 320 * DAY,
    action: "registry.created",
    actor: "keywright",
    targetKind: "registry",
    targetId: "local",
    targetName: "On this device",
    summary: "The registry was created",
    details: [],
  });
  events.sort((a, b) => a.at - b.at);
  return events.map((event, index) => ({ ...event, sequence: index + 1 })).reverse();
}

function makeAccounts(now: number, keywrightServer: boolean): AccountView[] {
  const base: AccountView = {
    id: "acc_1",
    displayName: "Ada Lovelace",
    email: "ada@example.com",
    emailVerified: true,
    providerId: "openid",
    providerName: "login.example.com",
    issuer: "https://login.example.com",
    subject: "248289761001",
    clientId: "keywright-desktop",
    scopes: ["openid", "profile", "email", "offline_access"],
    missingScopes: [],
    status: "signed_in",
    statusReason: null,
    accessToken: { issuedAt: now - 18 * MINUTE, expiresAt: now + 42 * MINUTE, refreshAt: now + 30 * MINUTE },
    inKeychain: true,
    identityVerified: true,
    signedInAt: now - 40 * DAY,
    lastRefreshedAt: now - 18 * MINUTE,
    clockOffsetMs: null,
  };
  const keywright: AccountView = {
    ...base,
    id: "acc_4",
    providerId: "keywright",
    providerName: "id.example.com",
    issuer: "https://id.example.com",
    subject: "u_248289761001",
    scopes: [...base.scopes, "account"],
  };
  return [
    ...(keywrightServer ? [keywright] : []),
    base,
    {
      ...base,
      id: "acc_2",
      displayName: "ada-lovelace",
      email: "ada@users.example.net",
      emailVerified: false,
      providerId: "github",
      providerName: "GitHub",
      issuer: "https://github.com",
      subject: "583231",
      scopes: ["read:user"],
      missingScopes: ["user:email"],
      status: "session_only",
      inKeychain: false,
      identityVerified: false,
      accessToken: { issuedAt: now - 50 * MINUTE, expiresAt: null, refreshAt: null },
      lastRefreshedAt: null,
      signedInAt: now - 50 * MINUTE,
    },
    {
      ...base,
      id: "acc_3",
      displayName: "Ada (work)",
      email: "ada.lovelace@corp.example",
      providerId: "microsoft",
      providerName: "Microsoft",
      issuer: "https://login.microsoft.example/common/v2.0",
      subject: "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
      status: "sign_in_needed",
      statusReason: {
        code: "reauth_required",
        message: "The provider ended this sign-in.",
        hint: "Sign in again to go on.",
        retryable: false,
      },
      accessToken: null,
      clockOffsetMs: 9 * MINUTE,
      lastRefreshedAt: now - 2 * DAY,
    },
  ];
}

export const KEYCHAIN_LOCKED: ErrorView = {
  code: "keychain_locked",
  message: "The keychain is locked.",
  hint: "Unlock it in your desktop’s password program, then check again.",
  retryable: true,
};
export const NO_KEYCHAIN: ErrorView = {
  code: "keychain_unavailable",
  message: "No keychain service answers on this system.",
  hint: "Start a Secret Service such as GNOME Keyring, KWallet or KeePassXC in this session, then try again.",
  retryable: true,
};
export const PEPPER_MISSING: ErrorView = {
  code: "pepper_missing",
  message: "The registry’s pepper is not in the keychain.",
  hint: "Restore the keychain of this user from a backup, or start with a new pepper: the keys of this device end then.",
  retryable: false,
};
export const VAULT_LOCKED: ErrorView = {
  code: "vault_locked",
  message: "The encrypted file is locked.",
  hint: "Unlock it with its passphrase.",
  retryable: true,
};
export const REGISTRY_DAMAGED: ErrorView = {
  code: "registry_damaged",
  message: "The registry file on this device is damaged.",
  hint: "Restore the last backup, or move the file away to begin anew.",
  retryable: false,
};

/** Builds the world that `?mock=a,b` asks for. */
export function makeWorld(scenario: Set<string>): World {
  const random = seeded(20261121);
  const now = Date.now();
  const count = scenario.has("empty") ? 0 : scenario.has("many") ? 100_000 : 48;
  const keys = makeKeys(random, count, now);
  if (scenario.has("hostile")) keys.push(...hostileKeys(random, now + DAY));
  const accounts = scenario.has("empty") ? [] : makeAccounts(now, scenario.has("keywright"));
  if (scenario.has("hostile") && accounts[0]) {
    accounts[0] = {
      ...accounts[0],
      displayName: `\u202e${"<script>alert(1)</script> ".repeat(400)}`,
      email: "a\u0000b@evil.example",
    };
  }
  return {
    scenario,
    keys,
    accounts,
    scopes: scenario.has("empty")
      ? []
      : SCOPES.map(([name, description, lowRisk]) => ({ name, description, lowRisk })),
    audit: scenario.has("empty") ? [] : makeAudit(random, keys, now),
    settings: {
      theme: scenario.has("dark") ? "dark" : scenario.has("light") ? "light" : "system",
      signInTimeoutS: 300,
      callbackPort: null,
      extraCaFile: null,
      clipboardClearS: 30,
      defaultKeyLifetimeDays: 90,
      defaultOverlapMs: DAY,
      allowNeverExpires: scenario.has("never"),
      registryAccount: null,
    },
    registryProblem: scenario.has("registry-damaged") ? REGISTRY_DAMAGED : null,
    keychainProblem: scenario.has("keychain-locked")
      ? KEYCHAIN_LOCKED
      : scenario.has("no-keychain")
        ? NO_KEYCHAIN
        : scenario.has("vault-locked")
          ? VAULT_LOCKED
          : scenario.has("pepper-missing")
            ? PEPPER_MISSING
            : null,
    vault: scenario.has("vault-locked") ? "locked" : "absent",
    passphrase: "correct horse battery",
  };
}
