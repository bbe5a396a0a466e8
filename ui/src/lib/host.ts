// The only door to the host: everything else imports commands, events and types from here.
// In a plain browser src/mock answers the same calls.
export { commands, events } from "./bindings";
export type * from "./bindings";
