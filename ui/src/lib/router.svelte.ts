// Routes in the hash: #/keys, #/keys/<id>, #/notices, #/accounts, #/sessions, #/activity,
// #/flows, #/flows/<id>, #/settings.
export const PAGES = ["keys", "notices", "accounts", "sessions", "activity", "flows", "settings"] as const;
export type PageId = (typeof PAGES)[number];

export interface Route {
  page: PageId;
  /** What is opened on the page, for example a key's id. */
  id: string | null;
}

/** The route a hash names; unknown ones lead to the keys. */
export function parseHash(hash: string): Route {
  const [page, id] = hash.replace(/^#\/?/, "").split("/");
  if (!PAGES.includes(page as PageId)) return { page: "keys", id: null };
  try {
    return { page: page as PageId, id: id ? decodeURIComponent(id) : null };
  } catch {
    return { page: page as PageId, id: null }; // a broken escape
  }
}

export function hashOf(page: PageId, id?: string | null): string {
  return id ? `#/${page}/${encodeURIComponent(id)}` : `#/${page}`;
}

let current = $state<Route>(parseHash(location.hash));
addEventListener("hashchange", () => (current = parseHash(location.hash)));

export const route = {
  get page(): PageId {
    return current.page;
  },
  get id(): string | null {
    return current.id;
  },
};

/** Goes to a page at once; `hashchange` would only come a task later. */
export function go(page: PageId, id?: string | null): void {
  const hash = hashOf(page, id);
  if (location.hash !== hash) location.hash = hash;
  current = parseHash(hash);
}
