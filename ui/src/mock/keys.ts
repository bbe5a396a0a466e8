// The pretended registry's answers about API keys.
import type {
  ApiKeyCountsView,
  ApiKeyListRequest,
  ApiKeyStateFilter,
  ApiKeyView,
  CheckView,
  DeliverSecretRequest,
  DeliveryOutcome,
  DeliveryTarget,
  DeliveryView,
  DisableApiKeyRequest,
  IssueApiKeyRequest,
  RevokeApiKeyRequest,
  RotateApiKeyRequest,
  SecretView,
  StepRotationRequest,
  VerificationView,
  VerifyApiKeyRequest,
  WaitingSecretView,
} from "../lib/host";
import { fail } from "./fail";
import { base62 } from "./random";
import { beginRotation, firstUse, refreshState, stepRotation, verifies } from "./rotations";
import { DAY, MINUTE, plainSettings, type MockKey, type World } from "./world";

const random = Math.random;

export class MockKeys {
  #reveals = new Map<
    string,
    { secret: string; shown: boolean; taken: boolean; key: MockKey; rotated: boolean }
  >();
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
  ) {
    // The window was loaded anew while a secret was on the screen.
    const [key] = world.scenario.has("waiting") ? world.keys : [];
    if (key) {
      const secret = this.#secret(key, null);
      secret.state = "pending";
      this.#answer(key, secret, true);
    }
  }

  #settle(key: MockKey): void {
    const { view, secrets } = key;
    if (view.oldSecretWorksUntil !== null && view.oldSecretWorksUntil <= Date.now()) {
      for (const secret of secrets) if (secret.state === "retiring") secret.state = "retired";
      key.rotation = null;
      refreshState(key);
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
      staleSince: this.world.scenario.has("stale") ? Date.now() - MINUTE : null,
    };
  }

  counts(): ApiKeyCountsView {
    const counts: ApiKeyCountsView = {
      all: 0,
      live: 0,
      rotating: 0,
      expiring: 0,
      expired: 0,
      disabled: 0,
      revoked: 0,
    };
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
      settings: key.settings,
      rotation: key.rotation,
      secrets: key.secrets,
      activity: this.world.audit.filter((event) => event.targetId === id).slice(0, 100),
      staleSince: null,
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
    refreshState(key);
    this.#sorted = null;
    return secret;
  }

  #answer(key: MockKey, secret: SecretView, rotated: boolean) {
    const whole = `${key.view.prefix}_${secret.kid}KYWRT1${base62(random, 34)}${secret.lastFour}`;
    const revealId = crypto.randomUUID();
    this.#reveals.set(revealId, { secret: whole, shown: false, taken: false, key, rotated });
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
    const network = request.settings?.networks?.find((text) => !/^[0-9a-f.:]+(\/\d+)?$/i.test(text));
    if (network)
      fail(
        "invalid_network",
        `“${network}” is not a network: write 192.0.2.0/24, 2001:db8::/48 or one address.`,
      );
    const now = Date.now();
    const asked = request.settings;
    const key: MockKey = {
      rotation: null,
      settings: {
        ...plainSettings(request.prefix),
        ...(asked && {
          environment: asked.environment || plainSettings(request.prefix).environment,
          notBefore: asked.notBefore,
          tags: asked.tags,
          note: asked.note,
          limits: asked.limit ? [{ ...asked.limit, name: "requests", sharedByOwner: false }] : [],
          networks: asked.networks,
          origins: asked.origins,
          credits: asked.credits,
          oneTime: asked.oneTime,
        }),
      },
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
        revocationQueuedAt: null,
        movedTo: null,
        mayChange: true,
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
    return this.#answer(key, secret, false);
  }

  rotate(request: RotateApiKeyRequest) {
    const earlier = this.#rotations.get(request.idempotencyKey);
    if (earlier) return earlier;
    const key = this.#get(request.id);
    if (key.view.state === "revoked")
      fail("api_key_revoked", "A revoked key cannot be rotated.", "Issue a new one.");
    const now = Date.now();
    beginRotation(key, request, now);
    const secret = this.#secret(key, now + 90 * DAY);
    secret.state = "pending";
    refreshState(key);
    this.note("api_key.rotated", key.view, `Rotated “${key.view.name}”`, {
      overlap: `${request.overlapMs / MINUTE} minutes`,
      kid: secret.kid,
    });
    const answer = this.#answer(key, secret, true);
    this.#rotations.set(request.idempotencyKey, answer);
    return answer;
  }

  step(request: StepRotationRequest): ApiKeyView {
    const key = this.#get(request.id);
    stepRotation(key, request.step, Date.now());
    this.#sorted = null;
    this.note(
      `api_key.rotation_${request.step}`,
      key.view,
      `Rotation of “${key.view.name}”: ${request.step}`,
    );
    return structuredClone(key.view);
  }

  disable(request: DisableApiKeyRequest): ApiKeyView {
    const key = this.#get(request.id);
    Object.assign(key.settings, { disabledAt: Date.now(), disabledReason: request.reason || null });
    refreshState(key);
    this.#sorted = null;
    this.note("api_key.disabled", key.view, `Disabled “${key.view.name}”`, { reason: request.reason });
    return structuredClone(key.view);
  }

  enable(id: string): ApiKeyView {
    const key = this.#get(id);
    Object.assign(key.settings, { disabledAt: null, disabledReason: null });
    refreshState(key);
    this.#sorted = null;
    this.note("api_key.enabled", key.view, `Enabled “${key.view.name}”`);
    return structuredClone(key.view);
  }

  /** A path or program with “fail” in it fails. */
  async deliver(request: DeliverSecretRequest): Promise<DeliveryView> {
    const { key, rotated } = this.#reveal(request.revealId);
    const name = (target: DeliveryTarget): string => {
      if (target.kind === "keychain") return `the keychain entry “${target.username}” of ${target.service}`;
      if (target.kind === "dot_env") return `${target.variable} in ${target.path}`;
      return target.kind === "file" ? `the file ${target.path}` : `the program ${target.run.program}`;
    };
    const empty = request.targets.find((target) => target.kind !== "keychain" && !/ \//.test(name(target)));
    if (empty) fail("invalid_target", "The file: write the whole path, from the root.");
    await new Promise((done) => setTimeout(done, 250));
    const bad = request.targets.findIndex((target) => name(target).includes("fail"));
    const outcomes = request.targets.map((target, index): DeliveryOutcome => {
      const state = bad < 0 ? "delivered" : index < bad ? "restored" : index === bad ? "failed" : "not_tried";
      const readBack = state === "delivered" && (target.kind !== "command" || target.check !== null);
      return { target: name(target), state, readBack, detail: null };
    });
    if (bad < 0) this.#reveal(request.revealId).taken = true;
    const cancelled = bad >= 0 && rotated && key.rotation?.state === "pending";
    if (cancelled) {
      stepRotation(key, "cancel", Date.now());
      this.#sorted = null;
      this.#reveals.delete(request.revealId);
    }
    const problem: DeliveryView["problem"] =
      bad < 0
        ? null
        : {
            code: "hook_failed",
            message: `The secret did not reach ${outcomes[bad]?.target}: permission denied.`,
            hint: cancelled
              ? "The old secret stays in use and the new one is dead. Mend the target and rotate again."
              : "The key works and still waits here: store it yourself, or try again.",
            retryable: !cancelled,
          };
    return { problem, outcomes, rotationCancelled: cancelled, key: structuredClone(key.view) };
  }

  revoke(request: RevokeApiKeyRequest): ApiKeyView {
    const key = this.#get(request.id);
    Object.assign(key.view, {
      state: "revoked",
      revokedAt: Date.now(),
      revokedReason: request.reason || null,
      oldSecretWorksUntil: null,
    });
    for (const secret of key.secrets) if (verifies(secret)) secret.state = "revoked";
    key.rotation = null;
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
    this.#reveal(id).taken = true;
    const ms = this.world.settings.clipboardClearS * 1000;
    setTimeout(() => this.emit("clipboard-cleared"), ms);
    return { clearsAt: Date.now() + ms };
  }

  waiting(): WaitingSecretView[] {
    return [...this.#reveals]
      .filter(([, { taken }]) => !taken)
      .map(([revealId, { key, rotated }]) => ({
        issued: { key: structuredClone(key.view), revealId, revealExpiresAt: Date.now() + 10 * MINUTE },
        rotated,
      }));
  }

  discard(id: string): null {
    this.#reveals.delete(id);
    return null;
  }

  verify({ presented, requiredScope, knowing }: VerifyApiKeyRequest): VerificationView {
    const shape = /^[A-Za-z][A-Za-z0-9_]{1,15}_([0-9A-Za-z]{12})KYWRT1[0-9A-Za-z]{38}$/.exec(
      presented.trim(),
    );
    const found = this.#known.get(presented.trim());
    if (found) this.#settle(found.key);
    const secret = found?.key.secrets.find(({ kid }) => kid === found.kid);
    if (!knowing && secret && found?.key.settings.oneTime && verifies(secret))
      fail(
        "verification_ends_key",
        "This key is for one use: a check that passes is that use, and ends the key.",
      );
    if (!knowing && secret?.state === "pending")
      fail(
        "verification_is_first_use",
        "Nobody has used this new secret yet: a check that passes is its first use. The rotation can no longer be cancelled then, and the time of the old secret may begin to run.",
      );
    const suspended = found?.key.view.state === "disabled";
    const works = secret !== undefined && verifies(secret) && !suspended;
    const scoped = !requiredScope || meets(requiredScope, found?.key.view.scopes ?? []);
    const tests: [string, string, boolean][] = [
      ["format", "Format", shape !== null],
      ["checksum", "Checksum", shape !== null],
      ["secret", "Secret", found !== undefined],
      ["state", "State", works],
      ["expiry", "Expiry", works],
      ["place", "Place", works],
      ["scope", "Scope", scoped],
      ["limits", "Limits", works],
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
              ? suspended
                ? "disabled"
                : (secret?.state ?? "revoked")
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
      firstUse(found.key, secret, now);
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

/** “a and (b or c)”, as the registry reads it. */
function meets(requirement: string, scopes: string[]): boolean {
  const words = requirement.match(/[()]|[^\s()]+/g) ?? [];
  let at = 0;
  const one = (): boolean => {
    const word = words[at++];
    if (word !== "(") return scopes.includes(word ?? "");
    const inner = any();
    at++; // the closing parenthesis
    return inner;
  };
  const all = (): boolean => {
    let met = one();
    while (words[at]?.toLowerCase() === "and" && ++at) met = one() && met;
    return met;
  };
  const any = (): boolean => {
    let met = all();
    while (words[at]?.toLowerCase() === "or" && ++at) met = all() || met;
    return met;
  };
  return any();
}
