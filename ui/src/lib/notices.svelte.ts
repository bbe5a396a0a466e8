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
    await this.#fetch(run, null, Math.min(MOST, Math.max(PAGE, this.rows.length)));
  }

  async more(): Promise<void> {
    if (this.loading || this.complete) return;
    this.loading = true;
    await this.#fetch(this.#run, this.#cursor, PAGE);
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

  async #fetch(run: number, cursor: string | null, limit: number): Promise<void> {
    try {
      const page = await commands.listNotices({ unreadOnly: this.unreadOnly, cursor, limit });
      if (run !== this.#run) return;
      this.rows = cursor === null ? page.items : this.rows.concat(page.items);
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
