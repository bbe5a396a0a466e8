// The list of keys as the page shows it. Filtering, sorting and paging happen in the registry;
// here are only the rows that were fetched so far, in order.
import { app } from "./app.svelte";
import {
  commands,
  type ApiKeyCountsView,
  type ApiKeySort,
  type ApiKeyStateFilter,
  type ApiKeyView,
  type ErrorView,
} from "./host";
import { MINUTE } from "./time";

const FIRST_PAGE = 100;
const NEXT_PAGE = 500;

class KeyList {
  filter = $state<ApiKeyStateFilter>("all");
  text = $state("");
  sort = $state<ApiKeySort>("created_desc");
  rows = $state.raw<ApiKeyView[]>([]);
  total = $state(0);
  /** The total is only about right. */
  about = $state(false);
  counts = $state.raw<ApiKeyCountsView | null>(null);
  /** No page has been shown yet. */
  fresh = $state(true);
  loading = $state(false);
  error = $state<ErrorView | null>(null);
  /** The server does not answer: what is shown was known at this moment. */
  staleSince = $state<number | null>(null);

  /** What was asked for the rows that are shown; null before any. */
  #shown: string | null = null;
  #cursor: string | null = null;
  #wanted = 0;
  #run = 0;
  #counting = 0;
  /** Records that were changed, and the how manieth change it was: a page that was asked for before has the old one. */
  #patched = new Map<string, { key: ApiKeyView; change: number }>();
  #changes = 0;
  #more: Promise<void> | null = null;
  #wake: ReturnType<typeof setTimeout> | undefined;

  /**
   * Loads from the top; what is on screen stays until the answer is there. The same question once more
   * is answered as far down as the view is.
   */
  async load(): Promise<void> {
    const run = ++this.#run;
    const changes = this.#changes;
    // Pages that are on their way belong to a run before this one: nobody takes them.
    this.#patched.clear();
    const question = this.#question();
    const again = question === this.#shown;
    if (!again) this.#wanted = 0;
    const limit = again ? Math.min(NEXT_PAGE, Math.max(FIRST_PAGE, this.rows.length)) : FIRST_PAGE;
    this.loading = true;
    try {
      const [page, counts] = await Promise.all([
        commands.listApiKeys(this.#request(null, limit)),
        commands.countApiKeys(),
      ]);
      if (run !== this.#run) return;
      let { items, nextCursor: cursor } = page;
      while (again && cursor !== null && items.length <= Math.min(this.#wanted, this.rows.length - 1)) {
        const next = await commands.listApiKeys(this.#request(cursor, NEXT_PAGE));
        if (run !== this.#run) return;
        items = items.concat(next.items);
        cursor = next.nextCursor;
      }
      this.about = page.totalIsEstimate;
      this.staleSince = page.staleSince;
      this.#show(this.#asPatched(items, changes), cursor, page.total ?? 0);
      this.#shown = question;
      this.counts = counts;
      this.error = null;
      this.fresh = false;
    } catch (thrown) {
      if (run !== this.#run) return;
      this.error = app.note(thrown);
      // Rows are never shown as the answer to a question that got none.
      if (question !== this.#shown) this.#drop();
    } finally {
      if (run === this.#run) {
        this.loading = false;
        this.#more = null;
        this.#wakeAtNextChange();
        this.ensure(this.#wanted);
      }
    }
    // Asked before something was changed: once more, for the numbers and the order.
    if (run === this.#run && changes !== this.#changes) await this.load();
  }

  /** Another registry: nothing of the one before stays on the screen. */
  async clear(): Promise<void> {
    this.#drop();
    this.counts = null;
    this.#counting += 1;
    this.fresh = true;
    this.error = null;
    this.staleSince = null;
    this.text = "";
    this.filter = "all";
    await this.load();
  }

  /** Loads again what is shown, without moving it. */
  refresh(): Promise<void> {
    return this.load();
  }

  /** Makes sure that row `index` will be there; pages come one after the other. */
  ensure(index: number): void {
    this.#wanted = index;
    // Once the list is there, what is wanted then is looked after.
    if (this.loading || this.#more || this.error) return;
    if (index < this.rows.length || this.#cursor === null) return;
    const more = this.#fetchMore(this.#run).finally(() => {
      if (this.#more === more) this.#more = null;
    });
    this.#more = more;
  }

  /** Puts a changed record in the place of the old one. */
  patch(key: ApiKeyView): void {
    this.#changes += 1;
    this.#patched.set(key.id, { key, change: this.#changes });
    const counting = ++this.#counting;
    this.rows = this.rows.map((row) => (row.id === key.id ? key : row));
    this.#wakeAtNextChange();
    commands.countApiKeys().then(
      (counts) => {
        if (counting === this.#counting) this.counts = counts;
      },
      (thrown) => app.note(thrown),
    );
  }

  async #fetchMore(run: number): Promise<void> {
    while (run === this.#run && this.#cursor !== null && this.rows.length <= this.#wanted) {
      const changes = this.#changes;
      try {
        const page = await commands.listApiKeys(this.#request(this.#cursor, NEXT_PAGE));
        if (run !== this.#run) return;
        this.#show(this.rows.concat(this.#asPatched(page.items, changes)), page.nextCursor, this.total);
      } catch (thrown) {
        if (run === this.#run) this.error = app.note(thrown);
        return;
      }
    }
  }

  /** The first page's total may be an estimate: the end of the list is where no page follows. */
  #show(rows: ApiKeyView[], cursor: string | null, total: number): void {
    this.rows = rows;
    this.#cursor = cursor;
    if (cursor === null) this.about = false;
    this.total = cursor === null ? rows.length : Math.max(total, rows.length + 1);
  }

  /** Rows of a page that was asked for after so many changes, with what was changed since. */
  #asPatched(items: ApiKeyView[], changes: number): ApiKeyView[] {
    if (changes === this.#changes) return items;
    return items.map((row) => {
      const patched = this.#patched.get(row.id);
      return patched && patched.change > changes ? patched.key : row;
    });
  }

  #drop(): void {
    this.rows = [];
    this.total = 0;
    this.#cursor = null;
    this.#shown = null;
  }

  #question(): string {
    return JSON.stringify(this.#request(null, 0));
  }

  #request(cursor: string | null, limit: number) {
    return { text: this.text.trim(), state: this.filter, sort: this.sort, cursor, limit };
  }

  /** An overlap or a life that ends changes a state: ask the registry then, and once an hour. */
  #wakeAtNextChange(): void {
    clearTimeout(this.#wake);
    const now = Date.now();
    let soonest = now + 60 * MINUTE;
    for (const row of this.rows) {
      for (const at of [row.oldSecretWorksUntil, row.state === "active" ? row.expiresAt : null]) {
        if (at !== null && at > now && at < soonest) soonest = at;
      }
    }
    this.#wake = setTimeout(() => void this.refresh(), soonest - now + 250);
  }
}

export const keys = new KeyList();
