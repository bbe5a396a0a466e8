// The pretended server's sessions: three browsers and two applications of one account.
import type { AccountSessionsView, SessionView } from "../lib/host";
import { fail } from "./fail";
import { DAY, HOUR, MINUTE, type World } from "./world";

function makeSessions(now: number): SessionView[] {
  const base: SessionView = {
    id: "ses_1",
    current: true,
    device: "computer",
    browser: "Firefox 142",
    os: "Linux",
    userAgent: "Mozilla/5.0 (X11; Linux x86_64; rv:142.0) Gecko/20100101 Firefox/142.0",
    address: "192.0.2.17",
    signedInAt: now - 3 * DAY,
    lastUsedAt: now - 4 * MINUTE,
    expiresAt: now + 11 * DAY,
    methods: ["pwd", "otp", "mfa"],
    applications: [{ id: "keywright-desktop", name: "Keywright desktop" }],
  };
  return [
    base,
    {
      ...base,
      id: "ses_2",
      current: false,
      device: "phone",
      browser: "Safari 18",
      os: "iOS",
      userAgent: "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) Safari/604.1",
      address: "198.51.100.4",
      lastUsedAt: now - 2 * HOUR,
      methods: ["hwk", "user"],
      applications: [{ id: "notes", name: "Notes" }],
    },
    {
      ...base,
      id: "ses_3",
      current: false,
      device: "unknown",
      browser: "",
      os: "unknown",
      userAgent: "",
      address: "2001:db8::7",
      signedInAt: now - 40 * DAY,
      lastUsedAt: now - 9 * DAY,
      expiresAt: now + 5 * DAY,
      methods: ["pwd"],
      applications: [],
    },
  ];
}

export class MockSessions {
  #view: Omit<AccountSessionsView, "accountId">;

  constructor(private world: World) {
    const now = Date.now();
    this.#view = {
      sessions: makeSessions(now),
      applications: [
        {
          clientId: "keywright-desktop",
          name: "Keywright desktop",
          current: true,
          scopes: ["openid", "profile", "email", "offline_access", "account"],
          allowedAt: now - 3 * DAY,
          lastUsedAt: now - 4 * MINUTE,
          expiresAt: now + 60 * DAY,
        },
        {
          clientId: "notes",
          name: world.scenario.has("hostile") ? "\u202e<b>Notes</b>".repeat(40) : "Notes",
          current: false,
          scopes: ["openid", "profile"],
          allowedAt: now - 20 * DAY,
          lastUsedAt: null,
          expiresAt: null,
        },
      ],
      more: false,
    };
  }

  list(accountId: string): AccountSessionsView {
    if (this.world.scenario.has("offline"))
      fail("network_error", "https://id.example.com could not be reached: no connection.", null, true);
    return { accountId, ...structuredClone(this.#view) };
  }

  end(id: string): null {
    if (!this.#view.sessions.some((session) => session.id === id))
      fail("session_gone", "It has ended already.", "Reload the list: it has changed since.");
    this.#view.sessions = this.#view.sessions.filter((session) => session.id !== id);
    return null;
  }

  endOthers() {
    const before = this.#view.sessions.length;
    this.#view.sessions = this.#view.sessions.filter((session) => session.current);
    return {
      sessions: before - this.#view.sessions.length,
      accessEndsAt: Date.now() + 5 * MINUTE,
    };
  }

  endApplication(clientId: string): null {
    this.#view.applications = this.#view.applications.filter((one) => one.clientId !== clientId);
    return null;
  }
}
