// npm oidc-provider with everything in memory, for the bench to stand beside: client credentials (opaque,
// or signed by the resource's algorithm), introspection, refresh tokens that rotate.
// Standard output: "ready <issuer>". It ends when its input does.
import { createServer } from 'node:http';
import { generateKeyPairSync } from 'node:crypto';
import Provider from 'oidc-provider';

let handler = (_request, response) => response.writeHead(503).end();
const server = createServer((request, response) => handler(request, response));
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${server.address().port}`;

const jwk = (type, options, alg) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), alg, use: 'sig', kid: alg,
});
const secret = 'a-secret-of-this-bench-only';
const provider = new Provider(issuer, {
  jwks: {
    keys: [
      jwk('rsa', { modulusLength: 2048 }, 'RS256'),
      jwk('ec', { namedCurve: 'P-256' }, 'ES256'),
      jwk('ed25519', {}, 'EdDSA'),
    ],
  },
  clients: [{
    client_id: 'bench', client_secret: secret, redirect_uris: ['http://127.0.0.1:1/callback'],
    response_types: ['code'], grant_types: ['authorization_code', 'refresh_token', 'client_credentials'],
    token_endpoint_auth_method: 'client_secret_basic', id_token_signed_response_alg: 'EdDSA',
  }],
  clientAuthMethods: ['client_secret_basic'],
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'] },
  scopes: ['openid', 'offline_access', 'email'],
  features: {
    clientCredentials: { enabled: true },
    introspection: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_context, resource) => ({
        scope: '', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 300,
        jwt: { sign: { alg: resource.split(':').pop() } },
      }),
    },
  },
  rotateRefreshToken: true,
  ttl: { AccessToken: 300, ClientCredentials: 300, IdToken: 300, RefreshToken: 86400, Grant: 86400 },
  findAccount: (_context, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
});
for (const event of ['grant.error', 'introspection.error', 'server_error']) {
  provider.on(event, (_context, error) => process.stderr.write(`${event}: ${error.stack ?? error}\n`));
}

// The bench does not measure sign-ins here, so a refresh token may be made without one.
async function refreshToken() {
  const client = await provider.Client.find('bench');
  const grant = new provider.Grant({ accountId: 'ada', clientId: 'bench' });
  grant.addOIDCScope('openid offline_access');
  const grantId = await grant.save();
  const token = new provider.RefreshToken({
    client, accountId: 'ada', grantId, scope: 'openid offline_access', gty: 'authorization_code',
    authTime: Math.floor(Date.now() / 1000), expiresWithSession: false,
  });
  return token.save();
}
const callback = provider.callback();
handler = async (request, response) => {
  if (request.url !== '/bench/refresh-token') return callback(request, response);
  const body = JSON.stringify({ refresh_token: await refreshToken() });
  response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  return response.end(body);
};
process.stdout.write(`ready ${issuer}\n`);
process.stdin.resume().on('end', () => process.exit(0));
