// The notices of the registry in use, page by page, newest first, and how many of them are unread.
import { app } from "./app.svelte";
import { commands, type ErrorView, type NoticeView } from "./host";

const PAGE = 50;
const MOST = 100;

class NoticeList {
  rows = $state.raw<NoticeView[]>([]);
  /** Neither read nor settled; 100 for as many and more. */
  unread = $state(0);
  unreadOnly = $state(false);
  complete = $state(false);
  fresh = $state(true);
  loading = $state(false);
  error = $state<ErrorView | null>(null);
  /** The server does not answer: what is shown was known at this moment. */
  staleSince = $state<number | null>(null);

  #cursor: string | null = null;
  #run = 0;

  /** Loads from the top; what is on screen stays until the answer is there. */
  async load(): Promise<void> {
    const run = ++this.#run;
    this.loading = true;
    // As far down as the view is: whoever reads there stays there.
    const shown = this.rows.length;
    await this.#fetch(run, null, Math.max(PAGE, shown), shown);
  }

  async more(): Promise<void> {
    if (this.loading || this.complete) return;
    this.loading = true;
    await this.#fetch(this.#run, this.#cursor, PAGE, 0);
  }

  /** Another registry: nothing of the one before stays on the screen. */
  async clear(): Promise<void> {
    this.rows = [];
    this.unread = 0;
    this.fresh = true;
    this.error = null;
    this.staleSince = null;
    await this.load();
  }

  async show(unreadOnly: boolean): Promise<void> {
    this.unreadOnly = unreadOnly;
    await this.load();
  }

  /** Marks one as read; throws an ErrorView. */
  async read(notice: NoticeView): Promise<void> {
    if (notice.read) return;
    try {
      const left = await commands.markNoticeRead(notice.id);
      this.unread = left.unread;
      this.rows = this.rows.map((row) => (row.id === notice.id ? { ...row, read: true } : row));
    } catch (thrown) {
      throw app.note(thrown);
    }
  }

  /** Marks all that are shown as read, and those below them: nothing that came since. Throws an ErrorView. */
  async readAll(): Promise<void> {
    const newest = this.rows[0]?.id;
    if (newest === undefined) return;
    try {
      const left = await commands.markNoticesReadUntil(newest);
      this.unread = left.unread;
      await this.load();
    } catch (thrown) {
      throw app.note(thrown);
    }
  }

  /** Up to so many in one page, and further pages until there are so many at least. */
  async #fetch(run: number, cursor: string | null, limit: number, least: number): Promise<void> {
    try {
      const ask = (cursor: string | null, limit: number) =>
        commands.listNotices({ unreadOnly: this.unreadOnly, cursor, limit: Math.min(MOST, limit) });
      let page = await ask(cursor, limit);
      let items = page.items;
      while (run === this.#run && page.nextCursor !== null && items.length < least) {
        page = await ask(page.nextCursor, least - items.length);
        items = items.concat(page.items);
      }
      if (run !== this.#run) return;
      this.rows = cursor === null ? items : this.rows.concat(items);
      this.unread = page.unread;
      this.staleSince = page.staleSince;
      this.#cursor = page.nextCursor;
      this.complete = page.nextCursor === null;
      this.error = null;
      this.fresh = false;
    } catch (thrown) {
      if (run === this.#run) this.error = app.note(thrown);
    } finally {
      if (run === this.#run) this.loading = false;
    }
  }
}

export const notices = new NoticeList();
