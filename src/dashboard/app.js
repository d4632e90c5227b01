// The page: who is signed in, the navigation, and the view that the address leads to.

import { completeSignIn, currentUser, forgetSignIn, shareSignIn, signInPanel, signOut } from './auth.js';
import { credential, get } from './api.js';
import { h, setContent, svg } from './dom.js';
import { badge, button, confirm, dialog, failure, iconButton, loading } from './components.js';

/** The views. `needs` is the permission that a person must have to see a view. */
const VIEWS = [
  { name: 'overview', label: 'Overview', load: () => import('./overview.js') },
  { name: 'sessions', label: 'Sessions', load: () => import('./sessions.js') },
  { name: 'try', label: 'Try it', load: () => import('./try.js'), needs: 'chat' },
  { name: 'companies', label: 'Companies', load: () => import('./companies.js'), group: 'Set up' },
  { name: 'channels', label: 'Channels', load: () => import('./channels.js') },
  { name: 'agents', label: 'Agents', load: () => import('./agents.js') },
  { name: 'knowledge', label: 'Knowledge', load: () => import('./knowledge.js') },
  { name: 'users', label: 'Users', load: () => import('./users.js'), needs: 'admin', group: 'Administer' },
  { name: 'keys', label: 'Keys', load: () => import('./keys.js'), needs: 'admin' },
  { name: 'audit', label: 'Audit', load: () => import('./audit.js'), needs: 'manage', group: 'Administer' },
];

const root = document.getElementById('app');
const main = h('main.main', { id: 'main', tabindex: '-1' });
let me = null;
/** Aborts when the view is left. */
let viewAborter = new AbortController();
/** Whether the view has input that is not saved. */
let isDirty = () => false;
/** The hash of the view that is shown. */
let shownHash = '';

const logo = () => svg('svg', { class: 'mark', viewBox: '0 0 32 32', width: 24, height: 24, 'aria-hidden': 'true' },
  svg('rect', { width: 32, height: 32, rx: 7 }),
  svg('path', { d: 'M11.5 9H17a4 4 0 0 1 4 4v7.5' }),
  [[9, 9], [23, 23], [9, 23], [23, 9]].map(([cx, cy]) => svg('circle', { cx, cy, r: 2.5 })));

function showSignIn(why) {
  document.title = 'Sign in · Switchboard';
  setContent(root, h('main.sign-in', { id: 'main' },
    h('div.sign-in-card',
      h('div.brand', logo(), h('span', 'Switchboard')),
      h('h1', 'Sign in'),
      h('p.lead', 'See whose messages are refused, link their M365 tenants, and try your agents.'),
      signInPanel(start, why))));
}

/** The dialog that asks to sign in again, shared by all calls that were answered with 401. */
let signingIn = null;
credential.signInAgain = (refusal) => {
  if (me === null) return Promise.resolve(false);
  signingIn ??= dialog('Sign in again', (close) => [
    h('p', 'Your sign-in is no longer valid. Your input is kept.'),
    signInPanel(async () => {
      const again = await currentUser();
      if (again === null) throw refusal;
      if (again.client_id !== me.client_id || again.id !== me.id || again.role !== me.role) {
        // Another person must not complete the call of the first one.
        isDirty = () => false;
        location.reload();
        return;
      }
      close(true);
    }),
  ]).then((done) => {
    signingIn = null;
    if (done !== true) showSignIn(refusal.message);
    return done === true;
  });
  return signingIn;
};

function navigation() {
  const offered = VIEWS.filter(({ needs }) => !needs || me.can[needs]);
  let group = null;
  return offered.map((view) => {
    const title = view.group && view.group !== group ? h('li.nav-group', { 'aria-hidden': 'true' }, view.group) : null;
    group = view.group ?? group;
    return [title, h('li', h('a', { href: `#/${view.name}`, 'data-view': view.name }, view.label))];
  });
}

const ROLES = { ADMIN: 'Administrator', USER: 'User', VIEWER: 'Viewer' };

function showShell() {
  const menu = iconButton('Menu', 'menu', () => {
    const opens = !root.classList.contains('menu-open');
    root.classList.toggle('menu-open', opens);
    menu.setAttribute('aria-expanded', String(opens));
  }, { 'aria-expanded': 'false', 'aria-controls': 'side' });
  menu.classList.add('menu-button');
  const name = me.tenant?.name ?? me.client_id;
  setContent(root,
    h('a.skip', { href: '#main', onclick: (event) => {
      event.preventDefault();
      main.focus();
    } }, 'Skip to content'),
    h('header.top', menu, h('a.brand', { href: '#/overview' }, logo(), h('span', 'Switchboard')), h('span.top-tenant', name)),
    h('header.side', { id: 'side' },
      h('a.brand', { href: '#/overview' }, logo(), h('span', 'Switchboard')),
      h('p.side-tenant', name),
      h('nav', { 'aria-label': 'Views' }, h('ul.nav', navigation())),
      h('div.side-foot',
        h('p.side-who', h('span', me.name ?? me.id), badge(me.role ? ROLES[me.role] : me.platform ? 'Platform key' : 'API key')),
        button('Sign out', async () => {
          if (!await confirmLeaving()) return;
          viewAborter.abort();
          await signOut();
          leave();
        }, { small: true }),
        aboutServer())),
    main);
}

/** The version of the server, what holds its data, and how many nodes there are. */
function aboutServer() {
  const line = h('p.side-server');
  get('/health').then(({ version, engine, nodes }) => {
    const store = engine === 'postgresql' ? `PostgreSQL, ${nodes} ${nodes === 1 ? 'node' : 'nodes'}` : 'SQLite';
    setContent(line, `Switchboard ${version} · ${store}`);
  }, () => {}); // Without an answer, the view says that the server cannot be reached.
  return line;
}

/** Loads the page again after the end of the sign-in, so that nothing of the person stays. */
function leave() {
  isDirty = () => false;
  viewAborter.abort();
  me = null;
  history.replaceState({ signedOut: true }, '', location.pathname);
  location.reload();
}

shareSignIn({
  isSignedIn: () => me !== null && signingIn === null,
  ended: leave,
  // A person who types a key wants to sign in as somebody else.
  mayBegin: () => me === null && root.querySelector('#sign-in-with')?.value === '',
  began: () => start(),
});

async function confirmLeaving() {
  return !isDirty() || confirm('Leave without saving?', 'Your changes are not saved.', 'Leave');
}

/** The route in the hash: the name of a view, the other parts of the path, and the query. */
function currentRoute() {
  const [route, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  let parts;
  try {
    parts = route.split('/').map(decodeURIComponent);
  } catch {
    parts = [''];
  }
  return { name: parts[0] || 'overview', parts: parts.slice(1), query: new URLSearchParams(query) };
}

/** Asks before unsaved input is lost. False if the person stays; then the address is reset. */
async function mayShowNext() {
  if (!isDirty()) return true;
  const wanted = location.hash;
  history.replaceState(null, '', shownHash || location.pathname);
  if (!await confirmLeaving()) return false;
  isDirty = () => false;
  history.replaceState(null, '', wanted || location.pathname);
  return true;
}

/** Closes the menu and marks the link to a view as the current one. */
function markCurrent(name) {
  root.classList.remove('menu-open');
  root.querySelector('.menu-button')?.setAttribute('aria-expanded', 'false');
  for (const link of root.querySelectorAll('[data-view]')) {
    if (link.dataset.view === name) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
}

/** What a view receives. `signal` aborts when the view is left. */
function contextOf({ name, parts, query }, signal) {
  const context = {
    me, parts, query, signal,
    /**
     * Writes the state of the view into the address, so that Back and a reload lead to the same
     * content. A page of a list is a new entry of the history, which also keeps the cursors of the
     * pages before it.
     */
    remember(state, before = null) {
      if (signal.aborted) return;
      const search = new URLSearchParams([...state]).toString();
      shownHash = `#/${[name, ...parts].map(encodeURIComponent).join('/')}${search ? `?${search}` : ''}`;
      if (before === null) history.replaceState(null, '', shownHash);
      else history.pushState({ before }, '', shownHash);
    },
    /** Sets the function that says whether the view has unsaved input. */
    guard(hasUnsavedInput) {
      isDirty = hasUnsavedInput;
    },
    /** Goes to another view without asking. */
    go(hash) {
      isDirty = () => false;
      if (location.hash === hash) context.reload();
      else location.hash = hash;
    },
    /** Loads this view again. */
    reload() {
      isDirty = () => false;
      shownHash = '';
      show();
    },
  };
  return context;
}

const notFound = () => [h('header.heading', h('h1', { tabindex: '-1' }, 'Page not found')), h('p.lead', h('a', { href: '#/overview' }, 'Go to the overview'))];

/**
 * Loads the page again when the server can be reached. Some browsers never load a module again that
 * once failed, and a page that is loaded without a server is lost.
 */
async function loadAgain() {
  await fetch(document.baseURI, { method: 'HEAD', cache: 'no-store' }).catch(() => {
    throw new Error('The server cannot be reached.');
  });
  location.reload();
}

/**
 * Loads the code of a view and shows the view. False if the person went to another view meanwhile.
 */
async function render(view, context) {
  const { signal } = context;
  // A view that loads at once must not flash a skeleton.
  const wait = setTimeout(() => setContent(main, loading(view.label)), 150);
  main.setAttribute('aria-busy', 'true');
  let module = null;
  try {
    module = await view.load();
    if (signal.aborted) return false;
    const content = await module.view(context);
    if (signal.aborted) return false;
    setContent(main, content);
  } catch (error) {
    if (signal.aborted) return false;
    const shown = module ? failure(error, () => context.reload()) : failure(new Error('The server cannot be reached.'), loadAgain);
    setContent(main, h('header.heading', h('h1', { tabindex: '-1' }, view.label)), shown);
  } finally {
    clearTimeout(wait);
    if (!signal.aborted) main.removeAttribute('aria-busy');
  }
  return true;
}

async function show() {
  if (me === null) return;
  if (location.hash === shownHash) return;
  if (!await mayShowNext()) return;
  shownHash = location.hash;
  viewAborter.abort();
  viewAborter = new AbortController();
  isDirty = () => false;
  const route = currentRoute();
  const view = VIEWS.find(({ name, needs }) => name === route.name && (!needs || me.can[needs]));
  markCurrent(route.name);
  if (!view) {
    main.removeAttribute('aria-busy');
    setContent(main, notFound());
  } else if (!await render(view, contextOf(route, viewAborter.signal))) return;
  const title = main.querySelector('h1');
  document.title = `${title?.textContent ?? view?.label ?? 'Switchboard'} · Switchboard`;
  scrollTo(0, 0);
  title?.focus({ preventScroll: true });
}

async function start(why = null) {
  try {
    me = await currentUser();
  } catch (error) {
    // The person is known, but not let in: another sign-in may be.
    if (error.status === 403) {
      await signOut();
      showSignIn(error.message);
      return;
    }
    setContent(root, h('main.sign-in', h('div.sign-in-card', failure(error, () => start()))));
    return;
  }
  if (me === null || me.kind === 'end_user_session') {
    const ended = credential.get() === null ? null : 'Your sign-in is no longer valid.';
    me = null;
    forgetSignIn();
    showSignIn(why ?? ended);
    return;
  }
  showShell();
  shownHash = '';
  if (location.hash === '' || location.hash === '#') history.replaceState(null, '', '#/overview');
  await show();
}

addEventListener('hashchange', async () => {
  // A sign-in link that is opened in this tab signs its holder in here.
  if (/^#code=/.test(location.hash)) await start(await completeSignIn());
  else await show();
});
addEventListener('beforeunload', (event) => {
  if (isDirty()) event.preventDefault();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && root.classList.contains('menu-open')) root.querySelector('.menu-button').click();
});

start(await completeSignIn());
