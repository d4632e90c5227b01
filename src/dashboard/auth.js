// Signing in with a sign-in link, with an API key, or with Microsoft Entra ID (authorization code
// with PKCE, RFC 7636).

import { call, credential, get, post } from './api.js';
import { h, setContent } from './dom.js';
import { button, errorText, notice } from './components.js';

/** The storage keys of a pending Entra sign-in, and of the grant that later refreshes the token. */
const PENDING = 'switchboard.entra.pending';
const GRANT = 'switchboard.entra.grant';
/** A token is refreshed this long before it expires. */
const EARLY_MS = 120_000;

const read = (name) => JSON.parse(sessionStorage.getItem(name) ?? 'null');
const store = (name, value) => sessionStorage.setItem(name, JSON.stringify(value));

const base64url = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
const random = () => base64url(crypto.getRandomValues(new Uint8Array(32)));

/** The address that the authority redirects to: this page. */
const redirectUri = () => new URL(location.pathname, location.origin).href;

async function endpoints(entra) {
  const response = await fetch(`${entra.authority}/common/v2.0/.well-known/openid-configuration`, { credentials: 'omit' });
  if (!response.ok) throw new Error(`Microsoft Entra ID answered with status ${response.status}.`);
  return response.json();
}

async function goToEntra(entra) {
  if (!globalThis.crypto?.subtle) throw new Error('Signing in with Microsoft requires https or localhost.');
  const { authorization_endpoint: authorize, token_endpoint: tokens } = await endpoints(entra).catch((error) => {
    throw new Error(`Microsoft Entra ID cannot be reached. ${error.message}`);
  });
  const verifier = random();
  const state = random();
  const challenge = base64url(await crypto.subtle.digest('SHA-256', new TextEncoder().encode(verifier)));
  const scope = [...entra.scopes, 'openid', 'profile', 'offline_access'].join(' ');
  store(PENDING, { state, verifier, tokens, scope, client_id: entra.client_id, then: location.hash });
  const url = new URL(authorize);
  for (const [name, value] of Object.entries({
    client_id: entra.client_id, response_type: 'code', response_mode: 'query', redirect_uri: redirectUri(), scope, state,
    code_challenge: challenge, code_challenge_method: 'S256', prompt: 'select_account',
  })) url.searchParams.set(name, value);
  location.assign(url);
}

async function fetchTokens(tokens, form) {
  const response = await fetch(tokens, { method: 'POST', body: new URLSearchParams(form), credentials: 'omit' });
  const body = await response.json().catch(() => ({}));
  if (!response.ok || !body.access_token) {
    throw new Error(`Microsoft did not sign you in. ${body.error_description ?? body.error ?? `Status ${response.status}.`}`);
  }
  credential.set(body.access_token);
  store(GRANT, {
    tokens, client_id: form.client_id, scope: form.scope, refresh_token: body.refresh_token ?? form.refresh_token ?? null,
    ends_at: Date.now() + (body.expires_in ?? 3_600) * 1_000,
  });
}

let renewing = null;
credential.renew = async () => {
  const grant = read(GRANT);
  if (grant === null || grant.refresh_token === null || Date.now() < grant.ends_at - EARLY_MS) return;
  renewing ??= fetchTokens(grant.tokens, {
    grant_type: 'refresh_token', client_id: grant.client_id, scope: grant.scope, refresh_token: grant.refresh_token,
  }).catch(() => {
    // The old token is still valid for a while, and a 401 then asks for a sign-in. The refresh
    // token is dropped, so that not every call tries again.
    store(GRANT, { ...grant, refresh_token: null });
  }).finally(() => (renewing = null));
  await renewing;
};

function clearSignIn() {
  credential.clear();
  sessionStorage.removeItem(GRANT);
  sessionStorage.removeItem(PENDING);
}

async function exchange(code) {
  const { token } = await post('/auth/exchange', { code }, { quiet: true });
  clearSignIn();
  credential.set(token);
}

/**
 * Signs in with the code that a sign-in link or the authority put into the address. The code is
 * removed from the address first. Returns the text of an error, or null.
 */
export async function completeSignIn() {
  const query = new URLSearchParams(location.search);
  const fragment = new URLSearchParams(location.hash.slice(1));
  const pending = read(PENDING);
  try {
    if (query.has('state')) {
      history.replaceState(null, '', location.pathname + (pending?.then ?? ''));
      sessionStorage.removeItem(PENDING);
      if (query.get('state') !== pending?.state) return 'This sign-in was not started on this page. Start again.';
      if (query.has('error')) return `Microsoft did not sign you in. ${query.get('error_description') ?? query.get('error')}`;
      clearSignIn();
      await fetchTokens(pending.tokens, {
        grant_type: 'authorization_code', client_id: pending.client_id, scope: pending.scope, redirect_uri: redirectUri(),
        code: query.get('code'), code_verifier: pending.verifier,
      });
    } else if (fragment.has('code')) {
      history.replaceState(null, '', location.pathname);
      await exchange(fragment.get('code'));
    }
    return null;
  } catch (error) {
    return errorText(error);
  }
}

/**
 * The caller with its permissions and its tenant, or null if nobody is signed in. Throws
 * `ApiError`.
 */
export async function currentUser() {
  if (credential.get() === null) return null;
  try {
    const { data: me } = await call('GET', '/whoami', { quiet: true });
    const can = {
      /** Change agents, channels, companies and articles. */
      manage: me.kind === 'service_account' || me.role === 'ADMIN',
      /** Manage API keys and users. */
      admin: me.kind === 'dashboard_user' && me.role === 'ADMIN',
      chat: me.role !== 'VIEWER',
    };
    const tenant = me.kind === 'end_user_session' ? null : await get('/tenant');
    return { ...me, can, tenant };
  } catch (error) {
    if (error.status === 401) return null;
    throw error;
  }
}

/** Ends the sign-in, on the server too if the server issued the token. */
export async function signOut() {
  try {
    if (credential.get() !== null) await call('POST', '/auth/sign-out', { quiet: true });
  } catch {
    // The server cannot end API keys and Entra's tokens. The page forgets them either way.
  }
  clearSignIn();
}

/** Signs in with a pasted API key, or with the code of a pasted link. */
async function signInWith(text) {
  if (/^neo_sk_/.test(text)) {
    const before = credential.get();
    const grant = sessionStorage.getItem(GRANT);
    clearSignIn();
    credential.set(text);
    try {
      await call('GET', '/whoami', { quiet: true });
    } catch (error) {
      clearSignIn();
      if (before !== null) credential.set(before);
      if (grant !== null) sessionStorage.setItem(GRANT, grant);
      throw error;
    }
    return;
  }
  const code = text.includes('code=') ? new URLSearchParams(text.slice(text.indexOf('code='))).get('code') : text;
  await exchange(code);
}

/** The sign-in form. `done` is called after a sign-in. `why` is the text of an earlier error. */
export function signInPanel(done, why) {
  const problem = h('div', why && notice('bad', 'You are not signed in.', h('p', why)));
  const input = h('input.input.code', {
    id: 'sign-in-with', type: 'password', name: 'credential', autocomplete: 'off', spellcheck: 'false', required: true,
    'aria-describedby': 'sign-in-hint',
  });
  const fail = (error) => setContent(problem, notice('bad', 'Sign-in failed.', h('p', errorText(error))));
  const submit = button('Sign in', null, { kind: 'primary', type: 'submit' });
  const form = h('form.form', {
    onsubmit: async (event) => {
      event.preventDefault();
      const text = input.value.trim();
      if (text === '' || submit.getAttribute('aria-disabled') === 'true') return;
      submit.setAttribute('aria-disabled', 'true');
      problem.replaceChildren();
      try {
        await signInWith(text);
        input.value = '';
        await done();
      } catch (error) {
        fail(error);
      } finally {
        submit.removeAttribute('aria-disabled');
      }
    },
  },
  h('div.field', h('label', { for: 'sign-in-with' }, 'Sign-in link or API key'), input,
    h('p.hint', { id: 'sign-in-hint' }, 'Create a link with ', h('code', 'switchboard login-link --tenant CLIENT_ID'), '. A link works once. An API key signs in as its service account.')),
  h('div.form-actions', submit));
  const entra = h('div.entra');
  call('GET', '/auth/config', { quiet: true }).then(({ data }) => {
    if (data.entra === null) return;
    setContent(entra, button('Sign in with Microsoft', () => goToEntra(data.entra).catch(fail), { kind: 'primary' }), h('div.or', h('span', 'or')));
  }, fail);
  return h('div.sign-in-panel', problem, entra, form);
}
