// A real OpenID Connect provider for one test, steered over /control by that test alone. It signs anybody in:
// the login `ada.supplier` is the person `ada.supplier` with the role `supplier`.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// The packages lie elsewhere: the first argument is the folder that holds node_modules.
const require = createRequire(pathToFileURL(`${process.argv[2]}/package.json`));
const load = async (name) => import(pathToFileURL(require.resolve(name)));
const { default: Provider } = await load('oidc-provider');
const jose = await load('jose');

// The test reads one line and no more.
console.log = console.info = console.error;

const CLIENT = 'gangline';
const SECRET = 'a secret of the test, of more than thirty-two bytes';

const state = {
  origin: 'http://127.0.0.1:9', // where Gangline is
  alg: 'RS256', // of ID tokens
  is_public: false, // a client without a secret
  in_id_token: false, // roles in the ID token, or only in the user info
  tamper: null, // what to do to the next ID tokens
  away: false, // hang up on whoever asks
  hits: {}, // requests by path
};
let keys = newKeys();
let provider;

function newKeys() {
  const pairs = [
    ['RS256', generateKeyPairSync('rsa', { modulusLength: 2048 })],
    ['ES256', generateKeyPairSync('ec', { namedCurve: 'P-256' })],
    ['EdDSA', generateKeyPairSync('ed25519')],
  ];
  return pairs.map(([, pair]) => ({
    ...pair.privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig',
  }));
}

const kinds = { RS256: 'RSA', PS256: 'RSA', ES256: 'EC', EdDSA: 'OKP' };
const keyOf = (alg) => keys.find((key) => key.kty === kinds[alg]);
const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');

// Signs claims as told: `with` is `true_key`, `other_key` (under the true one's name), `unknown_key`, `secret`
// or `none`.
async function sign(claims, how = 'true_key', header = {}) {
  const alg = state.alg;
  const key = keyOf(alg);
  if (how === 'none') return `${part({ alg: 'none', ...header })}.${part(claims)}.`;
  let [signer, kid, signedAs] = [key, key.kid, alg];
  if (how === 'other_key' || how === 'unknown_key') {
    const other = newKeys().find((one) => one.kty === key.kty);
    [signer, kid] = [other, how === 'other_key' ? key.kid : other.kid];
  }
  if (how === 'secret') [signedAs, kid] = ['HS256', undefined];
  const secret = how === 'secret' ? Buffer.from(SECRET) : await jose.importJWK({ ...signer, alg }, alg);
  return new jose.SignJWT(claims).setProtectedHeader({ alg: signedAs, kid, ...header }).sign(secret);
}

// Signs an ID token anew, with a change.
async function tampered(token) {
  const { how, ...changes } = state.tamper;
  const claims = { ...jose.decodeJwt(token), ...changes };
  for (const name of Object.keys(claims)) if (claims[name] === null) delete claims[name];
  return sign(claims, how);
}

function build() {
  const url = state.origin;
  provider = new Provider(issuer, {
    clients: [{
      client_id: CLIENT,
      ...(state.is_public ? { token_endpoint_auth_method: 'none' } : { client_secret: SECRET }),
      redirect_uris: [`${url}/signin/callback`],
      post_logout_redirect_uris: [`${url}/signin`],
      backchannel_logout_uri: `${url}/signin/backchannel`,
      backchannel_logout_session_required: true,
      id_token_signed_response_alg: state.alg,
    }],
    jwks: { keys },
    cookies: { keys: [randomUUID()] },
    claims: {
      openid: ['sub'], profile: ['name'], email: ['email', 'email_verified'], network: ['realm_access', 'org_id'],
    },
    conformIdTokenClaims: !state.in_id_token,
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA', 'HS256'] },
    pkce: { required: () => true },
    // By itself it asks no address of this machine, which is where Gangline is here.
    fetch: (url, { dispatcher, ...options }) => fetch(url, options),
    features: {
      backchannelLogout: { enabled: true }, rpInitiatedLogout: { enabled: true }, devInteractions: { enabled: true },
    },
    findAccount: (_, id) => ({
      accountId: id,
      claims: () => {
        const [name, role, org] = id.split('.');
        return {
          sub: id, name, email: `${name}@one.example`, email_verified: true,
          realm_access: { roles: role ? ['default', role] : [] }, org_id: org ?? 'org_one',
        };
      },
    }),
  });
  provider.use(async (ctx, next) => {
    await next();
    if (state.tamper && ctx.body?.id_token) {
      ctx.body = { ...ctx.body, id_token: await tampered(ctx.body.id_token) };
    }
  });
}

async function control(request, response) {
  let body = '';
  for await (const chunk of request) body += chunk;
  const said = JSON.parse(body || '{}');
  let answer = {};
  if (request.url === '/control/sign') answer = { token: await sign(said.claims, said.how, said.header) };
  else if (request.url === '/control/hits') answer = state.hits;
  else {
    const { rotate, ...changes } = said;
    Object.assign(state, changes);
    if (rotate) keys = newKeys();
    if (rotate || ['origin', 'alg', 'is_public', 'in_id_token'].some((name) => name in changes)) build();
  }
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
}

const server = createServer((request, response) => {
  if (request.url.startsWith('/control')) {
    control(request, response).catch((error) => response.writeHead(500).end(String(error.stack)));
    return;
  }
  const path = request.url.split('?')[0];
  state.hits[path] = (state.hits[path] ?? 0) + 1;
  if (state.away) request.socket.destroy();
  else provider.callback()(request, response);
});
let issuer;
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  build();
  process.stdout.write(`${JSON.stringify({ issuer, client: CLIENT, secret: SECRET })}\n`);
});
// The test's end is this one's, however it comes.
process.stdin.resume().on('end', () => process.exit(0)).on('error', () => process.exit(0));
