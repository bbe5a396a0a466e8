// The pretended registry's answers about API keys.
import type {
  ApiKeyCountsView,
  ApiKeyListRequest,
  ApiKeyStateFilter,
  ApiKeyView,
  CheckView,
  IssueApiKeyRequest,
  RevokeApiKeyRequest,
  RotateApiKeyRequest,
  SecretView,
  VerificationView,
  VerifyApiKeyRequest,
} from "../lib/host";
import { fail } from "./fail";
import { base62 } from "./random";
import { DAY, MINUTE, type MockKey, type World } from "./world";

const random = Math.random;

export class MockKeys {
  #reveals = new Map<string, { secret: string; shown: boolean }>();
  #known = new Map<string, { key: MockKey; kid: string }>();
  #rotations = new Map<string, unknown>();
  #sorted: { id: string; rows: MockKey[] } | null = null;

  constructor(
    private world: World,
    private note: (
      action: string,
      key: ApiKeyView,
      summary: string,
      details?: Record<string, string>,
    ) => void,
    private emit: (event: string) => void,
  ) {}

  #settle({ view, secrets }: MockKey): void {
    const now = Date.now();
    if (view.oldSecretWorksUntil !== null && view.oldSecretWorksUntil <= now) {
      view.oldSecretWorksUntil = null;
      view.state = "active";
      for (const secret of secrets) if (secret.state === "retiring") secret.state = "retired";
      const first = secrets[0];
      if (first?.state === "pending") first.state = "active";
      this.#sorted = null;
    }
  }

  #in(filter: ApiKeyStateFilter, view: ApiKeyView): boolean {
    const live = view.state === "active" || view.state === "rotating";
    if (filter === "all") return true;
    if (filter === "live") return live;
    if (filter === "expiring")
      return live && view.expiresAt !== null && view.expiresAt < Date.now() + 30 * DAY;
    return view.state === filter;
  }

  list(request: ApiKeyListRequest) {
    for (const key of this.world.keys) this.#settle(key);
    const id = JSON.stringify([request.text, request.state, request.sort, this.world.keys.length]);
    if (this.#sorted?.id !== id) {
      const text = request.text.toLowerCase();
      const rows = this.world.keys.filter(
        ({ view }) =>
          this.#in(request.state, view) &&
          (text === "" ||
            `${view.name} ${view.prefix} ${view.kid} ${view.scopes.join(" ")}`.toLowerCase().includes(text)),
      );
      const by: Record<typeof request.sort, (a: ApiKeyView, b: ApiKeyView) => number> = {
        created_desc: (a, b) => b.createdAt - a.createdAt,
        created_asc: (a, b) => a.createdAt - b.createdAt,
        name_asc: (a, b) => (a.name.toLowerCase() < b.name.toLowerCase() ? -1 : 1),
        name_desc: (a, b) => (a.name.toLowerCase() > b.name.toLowerCase() ? -1 : 1),
        expires_asc: (a, b) => (a.expiresAt ?? Infinity) - (b.expiresAt ?? Infinity),
        last_used_desc: (a, b) => (b.lastUsedAt ?? 0) - (a.lastUsedAt ?? 0),
      };
      rows.sort((a, b) => by[request.sort](a.view, b.view));
      this.#sorted = { id, rows };
    }
    const start = Number(request.cursor ?? 0);
    const rows = this.#sorted.rows;
    const end = start + request.limit;
    return {
      items: structuredClone(rows.slice(start, end).map(({ view }) => view)),
      nextCursor: end < rows.length ? String(end) : null,
      total: start === 0 ? rows.length : null,
      totalIsEstimate: false,
    };
  }

  counts(): ApiKeyCountsView {
    const counts: ApiKeyCountsView = { all: 0, live: 0, rotating: 0, expiring: 0, expired: 0, revoked: 0 };
    for (const { view } of this.world.keys) {
      for (const filter of Object.keys(counts) as ApiKeyStateFilter[])
        if (this.#in(filter, view)) counts[filter] += 1;
    }
    return counts;
  }

  #get(id: string): MockKey {
    const key = this.world.keys.find(({ view }) => view.id === id);
    if (!key)
      return fail(
        "api_key_not_found",
        "There is no such key in this registry.",
        "It may have been opened from an old link.",
      );
    this.#settle(key);
    return key;
  }

  find(id: string) {
    const key = this.#get(id);
    return structuredClone({
      key: key.view,
      secrets: key.secrets,
      activity: this.world.audit.filter((event) => event.targetId === id).slice(0, 100),
    });
  }

  #secret(key: MockKey, expiresAt: number | null): SecretView {
    const secret: SecretView = {
      kid: base62(random, 12),
      lastFour: base62(random, 4),
      state: "active",
      createdAt: Date.now(),
      expiresAt,
      retiresAt: null,
      firstUsedAt: null,
      lastUsedAt: null,
      useCount: 0,
    };
    key.secrets.unshift(secret);
    Object.assign(key.view, { kid: secret.kid, lastFour: secret.lastFour, expiresAt });
    this.#sorted = null;
    return secret;
  }

  #answer(key: MockKey, secret: SecretView) {
    const whole = `${key.view.prefix}_${secret.kid}KYWRT1${base62(random, 34)}${secret.lastFour}`;
    const revealId = crypto.randomUUID();
    this.#reveals.set(revealId, { secret: whole, shown: false });
    this.#known.set(whole, { key, kid: secret.kid });
    return { key: structuredClone(key.view), revealId, revealExpiresAt: Date.now() + 10 * MINUTE };
  }

  issue(request: IssueApiKeyRequest) {
    if (this.world.keychainProblem) throw this.world.keychainProblem;
    const unknown = request.scopes.find((name) => !this.world.scopes.some((scope) => scope.name === name));
    if (unknown)
      fail("unknown_scope", `This registry does not know the scope “${unknown}”.`, "Define it first.");
    if (request.name === "refuse me")
      fail("policy_violation", "The policy refuses this key.", "Choose another name.");
    const now = Date.now();
    const key: MockKey = {
      secrets: [],
      view: {
        id: `key_${base62(random, 8)}`,
        name: request.name,
        prefix: request.prefix,
        scopes: request.scopes,
        state: "active",
        kid: "",
        lastFour: "",
        createdAt: now,
        expiresAt: null,
        oldSecretWorksUntil: null,
        lastUsedAt: null,
        revokedAt: null,
        revokedReason: null,
      },
    };
    const secret = this.#secret(
      key,
      request.expiresInDays === null ? null : now + request.expiresInDays * DAY,
    );
    this.world.keys.push(key);
    this.note("api_key.issued", key.view, `Issued “${key.view.name}” with ${key.view.scopes.length} scopes`, {
      scopes: key.view.scopes.join(" "),
      kid: secret.kid,
    });
    return this.#answer(key, secret);
  }

  rotate(request: RotateApiKeyRequest) {
    const earlier = this.#rotations.get(request.idempotencyKey);
    if (earlier) return earlier;
    const key = this.#get(request.id);
    if (key.view.state === "revoked")
      fail("api_key_revoked", "A revoked key cannot be rotated.", "Issue a new one.");
    const now = Date.now();
    const old = key.secrets.find((secret) => secret.state === "active" || secret.state === "pending");
    for (const secret of key.secrets) if (secret.state === "retiring") secret.state = "retired";
    if (old)
      Object.assign(
        old,
        request.overlapMs === 0
          ? { state: "retired", retiresAt: now }
          : { state: "retiring", retiresAt: now + request.overlapMs },
      );
    const secret = this.#secret(key, now + 90 * DAY);
    secret.state = request.overlapMs === 0 ? "active" : "pending";
    key.view.state = request.overlapMs === 0 ? "active" : "rotating";
    key.view.oldSecretWorksUntil = request.overlapMs === 0 ? null : now + request.overlapMs;
    this.note("api_key.rotated", key.view, `Rotated “${key.view.name}”`, {
      overlap: `${request.overlapMs / MINUTE} minutes`,
      kid: secret.kid,
    });
    const answer = this.#answer(key, secret);
    this.#rotations.set(request.idempotencyKey, answer);
    return answer;
  }

  revoke(request: RevokeApiKeyRequest): ApiKeyView {
    const key = this.#get(request.id);
    Object.assign(key.view, {
      state: "revoked",
      revokedAt: Date.now(),
      revokedReason: request.reason || null,
      oldSecretWorksUntil: null,
    });
    for (const secret of key.secrets)
      if (["active", "pending", "retiring"].includes(secret.state)) secret.state = "revoked";
    this.#sorted = null;
    this.note("api_key.revoked", key.view, `Revoked “${key.view.name}”`, { reason: request.reason });
    return structuredClone(key.view);
  }

  #reveal(id: string) {
    const reveal = this.#reveals.get(id);
    return (
      reveal ??
      fail("reveal_expired", "The app has already forgotten this secret.", "Rotate the key to get a new one.")
    );
  }

  reveal(id: string) {
    const reveal = this.#reveal(id);
    if (reveal.shown)
      fail("already_revealed", "This secret was already shown.", "Rotate the key to get a new one.");
    reveal.shown = true;
    return { secret: reveal.secret };
  }

  copy(id: string) {
    this.#reveal(id);
    const ms = this.world.settings.clipboardClearS * 1000;
    setTimeout(() => this.emit("clipboard-cleared"), ms);
    return { clearsAt: Date.now() + ms };
  }

  discard(id: string): null {
    this.#reveals.delete(id);
    return null;
  }

  verify({ presented, requiredScope }: VerifyApiKeyRequest): VerificationView {
    const shape = /^[A-Za-z][A-Za-z0-9_]{1,15}_([0-9A-Za-z]{12})KYWRT1[0-9A-Za-z]{38}$/.exec(
      presented.trim(),
    );
    const found = this.#known.get(presented.trim());
    if (found) this.#settle(found.key);
    const secret = found?.key.secrets.find(({ kid }) => kid === found.kid);
    const works = secret !== undefined && ["active", "pending", "retiring"].includes(secret.state);
    const scoped = !requiredScope || (found?.key.view.scopes.includes(requiredScope) ?? false);
    const tests: [string, string, boolean][] = [
      ["format", "Format", shape !== null],
      ["checksum", "Checksum", shape !== null],
      ["known", "Known here", found !== undefined],
      ["secret", "Secret matches", found !== undefined],
      ["state", "State", works],
      ["expiry", "Expiry", works],
      ["scope", "Scope", scoped],
    ];
    const bad = tests.findIndex(([, , passed]) => !passed);
    const checks: CheckView[] = tests.map(([id, label, passed], index) => ({
      id,
      label,
      outcome:
        bad >= 0 && index > bad
          ? "skipped"
          : id === "scope" && !requiredScope
            ? "skipped"
            : passed
              ? "passed"
              : "failed",
      detail: id === "scope" && !requiredScope ? "No scope was asked for" : "",
    }));
    const code =
      bad < 0
        ? "valid"
        : !shape
          ? "malformed"
          : !found
            ? "not_found"
            : !works
              ? (secret?.state ?? "revoked")
              : "insufficient_scope";
    const messages: Record<string, [string, string | null]> = {
      valid: ["a request with this key is let through.", null],
      malformed: ["this is not one of our keys.", "Check that the whole key was copied, without quotes."],
      not_found: ["this registry does not know the key.", "It may belong to another registry."],
      insufficient_scope: [`the key lacks the scope “${requiredScope}”.`, "Issue a key that has it."],
    };
    const [message, hint] = messages[code] ?? [`the key is ${code}.`, "Issue a new key."];
    if (bad < 0 && secret && found) {
      const now = Date.now();
      Object.assign(secret, {
        lastUsedAt: now,
        firstUsedAt: secret.firstUsedAt ?? now,
        useCount: secret.useCount + 1,
      });
      if (secret.state === "pending") secret.state = "active";
      found.key.view.lastUsedAt = now;
    }
    return {
      accepted: bad < 0,
      code,
      message,
      hint,
      checks,
      key: found ? structuredClone(found.key.view) : null,
      kid: shape?.[1] ?? null,
      retiresAt: secret?.state === "retiring" ? secret.retiresAt : null,
      tookUs: 140 + Math.floor(random() * 400),
    };
  }
}
