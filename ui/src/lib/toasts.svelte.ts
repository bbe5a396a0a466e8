// Short messages at the edge of the window, read out by screen readers. Errors stay until closed.
export interface Toast {
  id: number;
  tone: "ok" | "info" | "error";
  title: string;
  text: string | null;
}

let next = 1;
let items = $state<Toast[]>([]);
// eslint-disable-next-line svelte/prefer-svelte-reactivity -- nothing on screen reads it
const timers = new Map<number, ReturnType<typeof setTimeout>>();

export const toasts = {
  get items(): Toast[] {
    return items;
  },
};

export function dismissToast(id: number): void {
  clearTimeout(timers.get(id));
  timers.delete(id);
  items = items.filter((toast) => toast.id !== id);
}

export function notify(tone: Toast["tone"], title: string, text: string | null = null): void {
  const id = next++;
  items = [...items.slice(-3), { id, tone, title, text }];
  if (tone !== "error")
    timers.set(
      id,
      setTimeout(() => dismissToast(id), text ? 7000 : 4500),
    );
}

/** While the pointer or the focus rests on them, toasts stay (WCAG 2.2.1). */
export function holdToasts(): void {
  for (const timer of timers.values()) clearTimeout(timer);
  timers.clear();
}

export function releaseToasts(): void {
  for (const toast of items) {
    if (toast.tone !== "error" && !timers.has(toast.id)) {
      timers.set(
        toast.id,
        setTimeout(() => dismissToast(toast.id), 3000),
      );
    }
  }
}
