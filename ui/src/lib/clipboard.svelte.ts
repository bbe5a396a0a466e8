// What the app said about the clipboard.
let clearedAt = $state(0);

export const clipboard = {
  /** When the app last took a copied secret off it; 0 for never. */
  get clearedAt(): number {
    return clearedAt;
  },
  cleared(): void {
    clearedAt = Date.now();
  },
};
