// npm better-auth with its API-key plugin over SQLite (WAL, synchronous NORMAL unless FULL is asked for as the first word), for the
// bench to stand beside: verification of a key, and a person's sessions. The database lies in a folder that goes with it.
// Standard output: "ready <address>". It ends when its input does.
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { apiKey } from '@better-auth/api-key';
import { betterAuth } from 'better-auth';
import { getMigrations } from 'better-auth/db/migration';
import { toNodeHandler } from 'better-auth/node';
import Database from 'better-sqlite3';

const KNOWN = 1_000; // as many as ours is asked for
const KEYS = 100_000;
const sync = process.argv[2] ?? 'NORMAL';
const folder = mkdtempSync(join(tmpdir(), 'keywright-better-auth-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));

let handler = (_request, response) => response.writeHead(503).end();
const server = createServer((request, response) => handler(request, response));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const address = `http://127.0.0.1:${server.address().port}`;

const database = new Database(join(folder, 'auth.db'));
database.pragma('journal_mode = WAL');
database.pragma(`synchronous = ${sync}`);
const options = {
  database,
  baseURL: address,
  secret: randomBytes(32).toString('hex'),
  emailAndPassword: { enabled: true },
  // Its own limit of requests an address would refuse a bench; ours has none for these either.
  rateLimit: { enabled: false },
  telemetry: { enabled: false },
  logger: { disabled: true },
  // A limit that is not reached, as ours has.
  plugins: [apiKey({ rateLimit: { enabled: true, timeWindow: 60_000, maxRequests: 6_000_000 } })],
};
const auth = betterAuth(options);
await (await getMigrations(options)).runMigrations();

const { headers, response: { user } } = await auth.api.signUpEmail({
  body: { email: 'owner@example.org', password: 'correct horse battery', name: 'Owner' }, returnHeaders: true,
});
const cookie = headers.getSetCookie().map((line) => line.split(';')[0]).join('; ');
const keys = [];
for (let at = 0; at < KNOWN; at += 1) {
  const made = await auth.api.createApiKey({
    body: { name: `service ${at}`, prefix: 'sk_live_', userId: user.id, expiresIn: 90 * 86_400, permissions: { keys: ['read'] } },
  });
  keys.push(made.key);
}
// The rest only makes the table large: rows like the last one, under ids and hashes of their own.
const columns = database.pragma('table_info(apikey)').map(({ name }) => name);
const of = (name) => (name === 'id' || name === 'key' ? 'lower(hex(randomblob(16)))' : `"${name}"`);
database.exec(
  `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ${KEYS - KNOWN})
   INSERT INTO apikey (${columns.map((name) => `"${name}"`).join(', ')})
   SELECT ${columns.map(of).join(', ')} FROM n, (SELECT * FROM apikey LIMIT 1)`,
);

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return JSON.parse(Buffer.concat(parts).toString());
}
function answer(response, status, value) {
  const text = JSON.stringify(value);
  response.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  response.end(text);
}
const own = toNodeHandler(auth);
handler = async (request, response) => {
  try {
    // The plugin has no route for this: whoever uses it writes one, as here.
    if (request.url === '/verify') {
      const verified = await auth.api.verifyApiKey({ body: await body(request) });
      return answer(response, verified.valid ? 200 : 401, verified);
    }
    if (request.url === '/bench/facts') return answer(response, 200, { keys, cookie, sync, size: KEYS });
    return await own(request, response);
  } catch (error) {
    process.stderr.write(`${error.stack ?? error}\n`);
    return answer(response, 500, { error: String(error) });
  }
};
process.stdout.write(`ready ${address}\n`);
process.stdin.resume().on('end', () => process.exit(0));
