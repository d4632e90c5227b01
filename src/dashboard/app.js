// The page: who is signed in, where one is, what is shown.

import { arrive, signInPanel, signOut, who } from './auth.js';
import { credential } from './api.js';
import { h, refill, svg } from './dom.js';
import { badge, button, confirm, dialog, failure, iconButton, skeleton } from './parts.js';

/** The views: what leads there, where their code is, who is offered them. */
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
  { name: 'audit', label: 'Audit', load: () => import('./audit.js'), needs: 'keep', group: 'Administer' },
];

const root = document.getElementById('app');
const main = h('main.main', { id: 'main', tabindex: '-1' });
let me = null;
let leaving = new AbortController();
/** Whether the view that is shown has something that was typed and not saved. */
let isDirty = () => false;
let shown = '';

const mark = () => svg('svg', { class: 'mark', viewBox: '0 0 32 32', width: 24, height: 24, 'aria-hidden': 'true' },
  svg('rect', { width: 32, height: 32, rx: 7 }),
  svg('path', { d: 'M11.5 9H17a4 4 0 0 1 4 4v7.5' }),
  [[9, 9], [23, 23], [9, 23], [23, 9]].map(([cx, cy]) => svg('circle', { cx, cy, r: 2.5 })));

function showSignIn(why) {
  document.title = 'Sign in · Switchboard';
  refill(root, h('main.sign-in', { id: 'main' },
    h('div.sign-in-card',
      h('div.brand', mark(), h('span', 'Switchboard')),
      h('h1', 'Sign in'),
      h('p.lead', 'See who would be refused and link them, and try your agents as people meet them.'),
      signInPanel(start, why))));
}

/** Signs in again where the old sign-in ended, with what was typed still standing behind it. */
let asking = null;
credential.ask = (refusal) => {
  if (me === null) return Promise.resolve(false);
  asking ??= dialog('Sign in again', (close) => [
    h('p', 'Your sign-in has ended. What you typed is still there.'),
    signInPanel(async () => {
      const again = await who();
      if (again === null) throw refusal;
      if (again.client_id !== me.client_id || again.id !== me.id || again.role !== me.role) {
        // Somebody else: what the first one had begun is not done in the other's name.
        isDirty = () => false;
        location.reload();
        return;
      }
      close(true);
    }),
  ]).then((done) => {
    asking = null;
    if (done !== true) showSignIn(refusal.message);
    return done === true;
  });
  return asking;
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
  refill(root,
    h('a.skip', { href: '#main', onclick: (event) => {
      event.preventDefault();
      main.focus();
    } }, 'Skip to the content'),
    h('header.top', menu, h('a.brand', { href: '#/overview' }, mark(), h('span', 'Switchboard')), h('span.top-tenant', name)),
    h('header.side', { id: 'side' },
      h('a.brand', { href: '#/overview' }, mark(), h('span', 'Switchboard')),
      h('p.side-tenant', name),
      h('nav', { 'aria-label': 'Views' }, h('ul.nav', navigation())),
      h('div.side-foot',
        h('p.side-who', h('span', me.name ?? me.id), badge(me.role ? ROLES[me.role] : me.platform ? 'Platform key' : 'API key')),
        button('Sign out', async () => {
          if (!await mayLeave()) return;
          isDirty = () => false;
          leaving.abort();
          await signOut();
          me = null;
          location.hash = '';
          location.reload();
        }, { small: true }))),
    main);
}

async function mayLeave() {
  return !isDirty() || confirm('Leave without saving?', 'What you changed here is not saved yet.', 'Leave');
}

/** The parts of the address behind the `#`. */
function place() {
  const [where, query = ''] = location.hash.replace(/^#\/?/, '').split('?');
  let parts;
  try {
    parts = where.split('/').map(decodeURIComponent);
  } catch {
    parts = [''];
  }
  return { name: parts[0] || 'overview', parts: parts.slice(1), query: new URLSearchParams(query) };
}

/** Asks before what was typed is lost. False if the person stays; then the address leads to the view that is shown. */
async function mayShowNext() {
  if (!isDirty()) return true;
  const wanted = location.hash;
  history.replaceState(null, '', shown || location.pathname);
  if (!await mayLeave()) return false;
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

/** What a view gets: who is signed in, what its address says, when it has to stop, and how it moves on. */
function contextOf({ name, parts, query }, signal) {
  const context = {
    me, parts, query, signal,
    /** Has the address name what is searched and filtered, so that the way back leads here. */
    remember(state) {
      if (signal.aborted) return;
      const said = new URLSearchParams([...state]).toString();
      shown = `#/${[name, ...parts].map(encodeURIComponent).join('/')}${said ? `?${said}` : ''}`;
      history.replaceState(null, '', shown);
    },
    /** Says whether there is something that was not saved; asked before the view goes. */
    guard(ask) {
      isDirty = ask;
    },
    /** Goes elsewhere without asking. */
    go(hash) {
      isDirty = () => false;
      if (location.hash === hash) context.again();
      else location.hash = hash;
    },
    /** Shows this view anew. */
    again() {
      isDirty = () => false;
      shown = '';
      show();
    },
  };
  return context;
}

const notHere = () => [h('header.heading', h('h1', { tabindex: '-1' }, 'This is not here.')), h('p.lead', h('a', { href: '#/overview' }, 'Go to the overview'))];

/** Loads a view's code and shows it. False if another view was asked for meanwhile. */
async function render(view, context) {
  const { signal } = context;
  // What takes no time to come is not announced by grey lines.
  const wait = setTimeout(() => refill(main, skeleton(6)), 150);
  try {
    const module = await view.load();
    if (signal.aborted) return false;
    const content = await module.view(context);
    if (signal.aborted) return false;
    refill(main, content);
  } catch (error) {
    if (signal.aborted) return false;
    refill(main, h('header.heading', h('h1', { tabindex: '-1' }, view.label)), failure(error, () => context.again()));
  } finally {
    clearTimeout(wait);
  }
  return true;
}

async function show() {
  if (me === null) return;
  if (location.hash === shown) return;
  if (!await mayShowNext()) return;
  shown = location.hash;
  leaving.abort();
  leaving = new AbortController();
  isDirty = () => false;
  const address = place();
  const view = VIEWS.find(({ name, needs }) => name === address.name && (!needs || me.can[needs]));
  markCurrent(address.name);
  if (!view) refill(main, notHere());
  else if (!await render(view, contextOf(address, leaving.signal))) return;
  const title = main.querySelector('h1');
  document.title = `${title?.textContent ?? view?.label ?? 'Switchboard'} · Switchboard`;
  scrollTo(0, 0);
  title?.focus({ preventScroll: true });
}

async function start(why = null) {
  try {
    me = await who();
  } catch (error) {
    refill(root, h('main.sign-in', h('div.sign-in-card', failure(error, () => start()))));
    return;
  }
  if (me === null || me.kind === 'end_user_session') {
    const ended = credential.get() === null ? null : 'Your sign-in has ended.';
    me = null;
    showSignIn(why ?? ended);
    return;
  }
  showShell();
  shown = '';
  if (location.hash === '' || location.hash === '#') history.replaceState(null, '', '#/overview');
  await show();
}

addEventListener('hashchange', async () => {
  // A link that is opened in a tab that is in use signs in there.
  if (/^#code=/.test(location.hash)) await start(await arrive());
  else await show();
});
addEventListener('beforeunload', (event) => {
  if (isDirty()) event.preventDefault();
});
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && root.classList.contains('menu-open')) root.querySelector('.menu-button').click();
});

start(await arrive());
