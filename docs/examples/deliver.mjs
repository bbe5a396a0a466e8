// Delivers what a schedule with `"mode": "automatic"` makes: listens for the webhook `delivery.due`, makes the
// new secret here, writes it into a file, reads it back, and tells the server only its kid and its digest.
// Node 20 or newer, and nothing to install.
//
//   KEYWRIGHT=https://keys.example.com ROOT_KEY_FILE=root.key WEBHOOK_SECRET_FILE=hook.secret FOLDER=/run/keys \
//     PORT=9000 node deliver.mjs
//
// A schedule whose `delivery` is `file:billing` writes FOLDER/billing. The root key needs keys:read and keys:write.
import { createHash, createHmac, randomInt, timingSafeEqual } from 'node:crypto';
import { open, readFile, rename } from 'node:fs/promises';
import { createServer } from 'node:http';
import { join } from 'node:path';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const { KEYWRIGHT, ROOT_KEY_FILE, WEBHOOK_SECRET_FILE, FOLDER, PORT } = process.env;
const rootKey = (await readFile(ROOT_KEY_FILE, 'utf8')).trim();
const webhookSecret = (await readFile(WEBHOOK_SECRET_FILE, 'utf8')).trim();

function crc32c(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return (crc ^ 0xffffffff) >>> 0;
}

const random = (length) => Array.from({ length }, () => ALPHABET[randomInt(62)]).join('');

function base62(number, length) {
  let text = '';
  for (let rest = number; text.length < length; rest = Math.floor(rest / 62)) text = ALPHABET[rest % 62] + text;
  return text;
}

/** `{prefix}_{kid:12}KYWRT1{secret:32}{crc:6}` */
function newKey(prefix) {
  const kid = random(12);
  const body = `${prefix}_${kid}KYWRT1${random(32)}`;
  return { kid, text: body + base62(crc32c(Buffer.from(body)), 6) };
}

async function call(path, body) {
  const headers = { authorization: `Bearer ${rootKey}` };
  if (body) headers['content-type'] = 'application/json';
  const method = body ? 'POST' : 'GET';
  const answer = await fetch(KEYWRIGHT + path, { method, headers, body: body && JSON.stringify(body) });
  const said = await answer.json();
  if (answer.ok) return said;
  throw Object.assign(new Error(`${answer.status} ${said.code}: ${said.detail}`), { code: said.code });
}

/** Whole or not at all, and for this user alone. */
async function store(file, text) {
  const part = await open(`${file}.new`, 'w', 0o600);
  try {
    await part.writeFile(text);
    await part.sync();
  } finally {
    await part.close();
  }
  await rename(`${file}.new`, file);
  if ((await readFile(file, 'utf8')) !== text) throw new Error('what was read back is not what was written');
}

async function deliver({ about, rotation_id: rotation, target }) {
  const name = /^file:([A-Za-z0-9_-]{1,64})$/.exec(target)?.[1];
  if (!name) return; // Somebody else's.
  const [file, path] = [join(FOLDER, name), `/api/v1/keys/${about.id}/rotations/${rotation}`];
  // Delivered before, as far as the server knows: what programs use is not written over.
  if ((await call(path)).state !== 'pending') return;
  if ((await call(`${path}/deliveries`)).items.some((one) => one.delivered)) return;
  const { prefix } = await call(`/api/v1/keys/${about.id}`);
  const { kid, text } = newKey(prefix);
  const former = await readFile(file, 'utf8').catch(() => null);
  try {
    const digest = createHash('sha256').update(text).digest('hex');
    await call(`${path}/reissue`, { client_secret: { kid, last_four: text.slice(-4), digest } });
    await store(file, text);
  } catch (error) {
    // The old secret goes on, and so does whoever reads the file.
    if (former !== null) await store(file, former).catch(() => {});
    await call(`${path}/deliveries`, { target, delivered: false, error: error.message.slice(0, 200) });
    throw error;
  }
  await call(`${path}/deliveries`, { target, delivered: true });
}

function isOurs(headers, body) {
  const [id, at] = [headers['webhook-id'], headers['webhook-timestamp']];
  if (!id || !(Math.abs(Date.now() / 1000 - Number(at)) < 300)) return false;
  const key = Buffer.from(webhookSecret.replace(/^whsec_/, ''), 'base64');
  const own = createHmac('sha256', key).update(`${id}.${at}.`).update(body).digest();
  return (headers['webhook-signature'] ?? '').split(' ').some((one) => {
    const given = Buffer.from(one.replace(/^v1,/, ''), 'base64');
    return given.length === own.length && timingSafeEqual(given, own);
  });
}

// One after the other: the same event may come twice.
let turn = Promise.resolve();
const server = createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts);
    if (!isOurs(request.headers, body)) return void response.writeHead(401).end();
    turn = turn.then(async () => {
      const event = JSON.parse(body);
      try {
        if (event.type === 'delivery.due') await deliver(event.data);
        response.writeHead(204).end();
      } catch (error) {
        // It is tried again, for more than a day.
        console.error(`${event.data?.rotation_id}: ${error.message}`);
        response.writeHead(500).end();
      }
    });
  });
});
server.listen(Number(PORT ?? 9000), '127.0.0.1', () => console.log(`listening ${server.address().port}`));
