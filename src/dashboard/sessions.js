// Sessions: the list, and one session with its conversation, its routing decision and its actions.

import { allRows, call, get, patch, path, post, remove } from './api.js';
import { conversation } from './chat.js';
import { append, h, setContent } from './dom.js';
import { form } from './form.js';
import { listView, pickFilter, textFilter } from './list.js';
import { nameOf } from './message.js';
import { agentNames, channelNames, companyNames } from './names.js';
import { badge, button, confirm, dialog, download, empty, facts, heading, identifier, linkButton, plural, time, toast } from './components.js';
import { agentOption, agents, channelOption, channels, companies, companyOption } from './picker.js';
import { explainRule } from './resolution.js';

export function view(context) {
  return context.parts.length === 0 ? list(context) : one(context, context.parts[0]);
}

function list(context) {
  const { element } = listView(context, {
    path: '/chat/sessions',
    caption: 'sessions',
    search: 'Search titles, messages and people…',
    filters: [
      { name: 'archived', label: 'Show', options: [['', 'Open'], ['true', 'Archived'], ['all', 'All']] },
      pickFilter('agent_id', 'Agent', agents(), agentOption),
      pickFilter('end_company_id', 'Company', companies(), companyOption),
      pickFilter('channel_id', 'Channel', channels(), channelOption),
      textFilter('end_user_id', 'Person’s id'),
    ],
    href: (session) => `#/sessions/${session.id}`,
    columns: [
      { label: 'Title', wide: true, cell: (session) => [h('bdi', session.title ?? 'Untitled'), session.archived_at && [' ', badge('Archived')], session.shared && [' ', badge('Shared', 'info')], session.snippet && snippet(session.snippet)] },
      { label: 'Person', cell: (session) => person(session) },
      { label: 'Agent', cell: (session) => agentNames.element(session.agent_id) },
      { label: 'Company', cell: (session) => (session.end_company_id ? companyNames.element(session.end_company_id) : h('span.muted', 'none')) },
      { label: 'Channel', hide: true, cell: (session) => (session.channel_id ? channelNames.element(session.channel_id) : TRANSPORTS[session.channel]) },
      { label: 'Messages', hide: true, cell: (session) => String(session.message_count) },
      { label: 'Last used', cell: (session) => time(session.updated_at) },
    ],
    none: empty('No sessions yet.', 'A session appears here when somebody chats: through a bot, through the API, or in the view Try it.',
      context.me.can.chat && linkButton('Try an agent', '#/try', { kind: 'primary' })),
  });
  return [heading('Sessions', { lead: 'The chats of your technicians and clients’ staff with agents.' }), element];
}

/** The part of a message that a search found. Its marks count UTF-16 code units, as JavaScript does. */
function snippet({ text, marks }) {
  const element = h('div.snippet.muted', { dir: 'auto' });
  let end = 0;
  for (const [from, to] of marks) {
    append(element, text.slice(end, from), h('mark', text.slice(from, to)));
    end = to;
  }
  return append(element, text.slice(end));
}

/** Who talks in a session. */
const person = ({ end_user: user }) => (user ? h('bdi', { title: user.email }, user.name ?? user.id) : h('span.muted', 'none'));

const TRANSPORTS = { TEAMS: 'Teams', DASHBOARD: 'Dashboard', API: 'API' };

async function one(context, id) {
  const { signal } = context;
  const session = await get(path`/chat/sessions/${id}`, {}, signal);
  const agent = await get(path`/agents/${session.agent_id}`, {}, signal).catch((error) => {
    if (error.status === 404) return null;
    throw error;
  });
  return new SessionView(context, session, agent).parts();
}

/** The view of one session: its actions, its conversation, and why its agent answered. */
class SessionView {
  head = h('div');
  about = h('div.card.stack');
  /** Aborts the stream of the conversation. */
  streamAborter = new AbortController();

  constructor(context, session, agent) {
    const { me } = context;
    const isMine = session.created_by.id === me.id;
    Object.assign(this, { context, session, agent, isMine, mayChange: me.can.chat && (me.can.manage || isMine) });
  }

  parts() {
    const { context: { me, signal }, session, agent } = this;
    this.draw();
    return [
      this.head,
      h('div.columns.two',
        h('section', { 'aria-label': 'Transcript' }, conversation({
          session, signal: AbortSignal.any([signal, this.streamAborter.signal]),
          people: { user: asker(session), assistant: agent?.name ?? 'Agent' },
          writes: this.isMine && me.can.chat && session.archived_at === null,
          opening: { welcome: session.message_count === 0 ? 'No messages yet.' : null },
        })),
        this.about),
    ];
  }

  draw() {
    setContent(this.head, heading(this.session.title ?? 'Untitled session', { back: { href: '#/sessions', label: 'Sessions' }, actions: this.actions() }));
    setContent(this.about, h('h2', 'Why this agent answered'), this.reason(), this.facts(), this.sharing());
  }

  actions() {
    const { context: { me }, mayChange } = this;
    const isOpen = this.session.archived_at === null;
    return [
      mayChange && button('Rename', () => this.rename()),
      button('Export', () => this.chooseExport()),
      mayChange && isOpen && button('Archive', () => this.change({ archived: true }, 'The session was archived. It takes no messages until you reopen it.'), { icon: 'archive' }),
      mayChange && !isOpen && button('Reopen', () => this.change({ archived: false }, 'The session was reopened.')),
      mayChange && isOpen && button('Reset', () => this.reset()),
      me.can.manage && button('Delete', () => this.erase(), { kind: 'danger' }),
    ];
  }

  /** The rule that decided, as a sentence. */
  reason() {
    const { channel_id: channel, end_company_id: company, resolution } = this.session;
    return h('p', explainRule(resolution.rule, {
      channel: channel ? h('a', { href: `#/channels/${channel}` }, channelNames.element(channel)) : 'a channel',
      company: company && companyLink(company),
    }));
  }

  facts() {
    const { context: { me }, session, agent } = this;
    const { created_by: creator, end_company_id: company } = session;
    return facts([
      ['Person', this.person()],
      ['Agent', agent ? h('a', { href: `#/agents/${agent.agent_id}` }, h('bdi', agent.name)) : `${session.agent_id} (deleted)`],
      ['Company', company ? companyLink(company) : 'none'],
      ['Acting for', me.tenant?.client_id === session.client_id ? me.tenant.name : session.client_id],
      ['Decided by', h('code', session.resolution.rule)],
      ['Started by', [h('bdi', creator.name ?? creator.id), ' through ', TRANSPORTS[session.channel] ?? session.channel]],
      ['Started', time(session.created_at)],
      ['Shared', session.shared ? 'with the MSP’s other users' : 'no'],
      ['Archived', session.archived_at ? time(session.archived_at) : 'no'],
      ...Object.entries(session.metadata).map(([name, value]) => [h('bdi', name), h('bdi', value)]),
      ['Id', identifier(session.id)],
    ]);
  }

  /** Who talks, with a link to that person's sessions. */
  person() {
    const { end_user: user } = this.session;
    if (!user) return 'none';
    const all = h('a', { href: `#/sessions?archived=all&end_user_id=${encodeURIComponent(user.id)}` }, h('bdi', user.name ?? user.id));
    return user.email ? [all, ' (', h('bdi', user.email), ')'] : all;
  }

  /** The button that shares the session with other users. Only people see it, not API keys. */
  sharing() {
    const { context: { me }, session: { shared } } = this;
    return this.mayChange && me.kind === 'dashboard_user' && button(shared ? 'Stop sharing' : 'Share with colleagues',
      () => this.change({ shared: !shared }, shared ? 'The session is no longer shared.' : 'The MSP’s other users can now read the session.'), { small: true });
  }

  async change(values, done) {
    Object.assign(this.session, (await patch(path`/chat/sessions/${this.session.id}`, values)).data);
    this.draw();
    toast(done);
  }

  rename() {
    return dialog('Rename session', (close) => form({
      fields: [{ name: 'title', label: 'Title', nullable: true }],
      values: this.session,
      submit: async (values) => {
        await this.change(values, 'The session was renamed.');
        close();
      },
    }).element);
  }

  async reset() {
    if (!await confirm('Reset this session?', 'The session is archived and its running turns are cancelled. The next message from Teams starts a new session.', 'Reset')) return;
    Object.assign(this.session, await post(path`/chat/sessions/${this.session.id}/reset`));
    this.draw();
    toast('The session was archived, and its turns were cancelled.');
  }

  async erase() {
    const { context, session } = this;
    if (!await confirm('Delete this session?', `${plural(session.message_count, 'message')}, with answers and files, will be deleted. Export the session first if you may need it later. This cannot be undone.`, 'Delete session')) return;
    // The server ends the stream of a deleted session with an error, which this view must not show.
    this.streamAborter.abort();
    try {
      await remove(path`/chat/sessions/${session.id}`);
    } catch (error) {
      context.reload();
      throw error;
    }
    toast('The session was deleted.');
    context.go('#/sessions');
  }

  chooseExport() {
    return dialog('Export session', (close) => [
      h('p', 'Download the session with all its messages.'),
      h('div.dialog-actions',
        button('Markdown', () => this.exportAs('md').then(() => close())),
        button('JSON', () => this.exportAs('json').then(() => close()), { kind: 'primary' })),
    ]);
  }

  async exportAs(kind) {
    const { context: { signal }, session: { id }, agent } = this;
    const messages = [];
    for await (const message of allRows(path`/chat/sessions/${id}/messages`, {}, signal)) messages.push(message);
    const session = (await call('GET', path`/chat/sessions/${id}`, { signal })).data;
    const name = `session-${id}.${kind}`;
    if (kind === 'json') download(name, 'application/json', `${JSON.stringify({ session, messages }, null, 2)}\n`);
    else download(name, 'text/markdown', asMarkdown(session, agent, messages));
    toast(`${plural(messages.length, 'message')} exported to ${name}.`);
  }
}

/** The name of who asks in a session. */
function asker({ end_user: user, end_company_id: company, created_by: creator }) {
  if (user) return user.name ?? user.id;
  return company ? 'Client staff' : creator.name ?? 'Technician';
}

const companyLink = (id) => h('a', { href: `#/companies/${encodeURIComponent(id)}` }, companyNames.element(id));

/**
 * A session as a Markdown document. Messages are quoted, so that they cannot imitate its headings.
 */
function asMarkdown(session, agent, messages) {
  const quoted = (text) => text.split('\n').map((line) => `> ${line}`).join('\n');
  const line = (text) => String(text ?? 'none').replace(/\s+/g, ' ');
  const transcript = messages.map((message) => [
    `## ${message.role === 'user' ? 'Question' : 'Answer'}${nameOf(message) ? ` by ${line(nameOf(message))}` : ''}, ${message.created_at}`,
    '',
    quoted(message.content),
    ...message.attachments.map((file) => `\nFile: ${line(file.filename ?? file.blob_path)} (${file.mime})`),
    ...message.parts.filter((part) => part.type.startsWith('source-')).map((part) => `\nSource: ${line(part.title ?? part.url)}${part.url ? ` (${part.url})` : ''}`),
    ...(message.feedback?.rating ? [`\nRated: ${message.feedback.rating}${message.feedback.comment ? `, ${line(message.feedback.comment)}` : ''}`] : []),
    '',
  ].join('\n'));
  return [
    `# ${line(session.title ?? 'Untitled session')}`,
    '',
    `* Session: ${session.id}`,
    `* Person: ${line(session.end_user?.name ?? session.end_user?.id)}`,
    `* Agent: ${line(agent?.name)} (${session.agent_id})`,
    `* Acting for: ${session.client_id}`,
    `* Company: ${line(session.end_company_id)}`,
    `* Decided by: ${session.resolution.rule}`,
    `* Started: ${session.created_at} by ${line(session.created_by.name ?? session.created_by.id)}`,
    '',
    ...transcript,
  ].join('\n');
}
