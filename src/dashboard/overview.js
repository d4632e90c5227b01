// The overview: problems that make Switchboard refuse people, each with a fix, and the statistics
// of the last days.

import { call, get, patch, path, put, remove } from './api.js';
import { h, setContent } from './dom.js';
import { badge, button, confirm, dialog, failure, heading, linkButton, milliseconds, notice, number, plural, section, skeleton, time, toast } from './components.js';
import { form } from './form.js';
import { linkDirectory, linkedCompanies, unshareDirectory } from './linking.js';
import { channelNames } from './names.js';
import { agents, picker } from './picker.js';
import { bars } from './chart.js';

/** Refused M365 tenants on a page. */
const PAGE = 10;

export async function view(context) {
  const problems = h('div');
  const { signal } = context;
  const redraw = async () => setContent(problems, await findProblems(context, redraw));
  const figures = h('div', skeleton(3));
  if (context.me.can.manage) statistics(signal).then((drawn) => setContent(figures, drawn), (error) => signal.aborted || setContent(figures, failure(error)));
  await redraw();
  return [
    heading('Overview', { lead: `Problems to fix at ${context.me.tenant?.name ?? context.me.client_id}, and the statistics of the last days.` }),
    problems,
    context.me.can.manage && figures,
  ];
}

/** The sections of problems, or a notice that there are none. */
async function findProblems({ me, signal }, redraw) {
  const [refused, health] = await Promise.all([
    call('GET', '/end-companies/unlinked-tenants', { query: { page_size: PAGE }, signal }),
    get('/end-companies/health', {}, signal),
  ]);
  const seen = new Set(refused.data.map((row) => row.inbound_tenant_id));
  const installed = health.installed_without_company.items.filter((item) => !seen.has(item.end_client_tenant_id));
  const shared = health.shared_directories.items.filter((item) => !seen.has(item.tenant_id));
  if (refused.data.length + installed.length + shared.length + health.duplicate_names.count + health.channels_without_agent.count + health.unusable_directories.count + health.installed_elsewhere.count === 0) {
    return section('Needs attention', notice('good', 'No problems found.',
      h('p', 'Every M365 tenant that a bot is installed for is linked to exactly one company, and every channel has an agent that can answer.')));
  }
  return [
    refused.data.length > 0 && refusedTenants(me, refused, redraw, signal),
    problemList('Companies that share an M365 tenant', health.shared_directories, shared, (item) => row(
      h('code', item.tenant_id),
      [item.companies.map(({ psa_company_name: name }, index) => [index > 0 && ', ', h('bdi', name)]),
        item.linked_companies > item.companies.length && ` and ${item.linked_companies - item.companies.length} more`],
      badge(linkedCompanies(item.linked_companies), 'warn'),
      me.can.manage && button('Choose one company', async () => await unshareDirectory(item.tenant_id) && redraw(), { small: true }))),
    problemList('Installs without a linked company', health.installed_without_company, installed, (item) => row(
      h('code', item.end_client_tenant_id),
      ['Switchboard refuses people who write from there. Channel: ', h('a', { href: `#/channels/${item.channel_id}` }, h('bdi', item.internal_name))],
      null,
      me.can.manage && button('Link to a company', async () => await linkDirectory(item.end_client_tenant_id) && redraw(), { small: true, icon: 'link' }))),
    problemList('Companies of the same name', health.duplicate_names, health.duplicate_names.items, (item) => row(
      h('bdi', item.psa_company_name),
      ['Check whether they are one company: ', item.companies.map(({ psa_company_id: id }, index) => [index > 0 && ', ', h('a', { href: path`#/companies/${id}` }, h('bdi', id))]),
        item.same_named_companies > item.companies.length && ` and ${item.same_named_companies - item.companies.length} more`],
      null, null)),
    problemList('Ids that are no organization’s M365 tenant', health.unusable_directories, health.unusable_directories.items, (item) => row(
      h('code', item.tenant_id),
      item.message,
      item.psa_company_id ? h('a', { href: path`#/companies/${item.psa_company_id}` }, h('bdi', item.psa_company_name))
        : item.channel_id && h('a', { href: `#/channels/${item.channel_id}` }, h('bdi', item.internal_name)))),
    problemList('Channels without an agent that can answer', health.channels_without_agent, health.channels_without_agent.items, (item) => row(
      h('a', { href: `#/channels/${item.channel_id}` }, h('bdi', item.internal_name)),
      item.message,
      badge(item.agent_name ?? 'agent deleted', 'bad'),
      me.can.manage && button('Fix', async () => await fixChannel(item) && redraw(), { small: true }))),
    problemList('M365 tenants that a shared bot serves for somebody else', health.installed_elsewhere, health.installed_elsewhere.items, (item) => row(
      h('code', item.end_client_tenant_id),
      [item.message, ' Your channel of the bot: ', h('a', { href: `#/channels/${item.channel_id}` }, h('bdi', item.internal_name))],
      null, null)),
  ];
}

/** The problems of one kind that no other section shows. The server lists only the first ones. */
function problemList(title, { count, items }, shown, rowOf) {
  return shown.length > 0 && section(title, h('ul.findings', shown.map(rowOf)),
    count > items.length && h('p.lead', `The first ${number(items.length)} of ${number(count)}.`));
}

const row = (name, text, mark, action) => h('li', h('div.finding-text', h('div.row', name, mark), h('p', text)), action);

/** The M365 tenants that were refused, page by page. */
function refusedTenants(me, first, redraw, signal) {
  const list = h('ul.findings');
  const more = h('div.paging');
  const draw = ({ data, meta }) => {
    list.append(...data.map((item) => row(
      h('code', item.inbound_tenant_id),
      [plural(item.attempts, 'message'), ' refused, last ', time(item.last_seen_at), ', first ', time(item.first_seen_at), ', through ',
        item.channel_id ? h('a', { href: `#/channels/${item.channel_id}` }, channelNames.element(item.channel_id)) : 'no channel', item.bot_id && [' (bot ', h('code', item.bot_id), ')']],
      badge(linkedCompanies(item.linked_companies), 'warn'),
      me.can.manage && h('div.actions',
        item.linked_companies > 1
          ? button('Choose one company', async () => await unshareDirectory(item.inbound_tenant_id) && redraw(), { small: true, kind: 'primary' })
          : button('Link to a company', async () => await linkDirectory(item.inbound_tenant_id) && redraw(), { small: true, icon: 'link', kind: 'primary' }),
        button('Dismiss', async () => {
          if (!await confirm('Dismiss this M365 tenant?', 'The list shows it again when Switchboard refuses somebody there. Nothing else changes.', 'Dismiss', { kind: 'plain' })) return;
          await remove(path`/end-companies/unlinked-tenants/${item.inbound_tenant_id}`);
          toast('The M365 tenant was dismissed.');
          await redraw();
        }, { small: true })))));
    setContent(more, meta.pagination.has_more && button('Show more', async () => {
      draw(await call('GET', '/end-companies/unlinked-tenants', { query: { page_size: PAGE, cursor: meta.pagination.next_cursor }, signal }));
    }, { small: true }));
  };
  draw(first);
  return section('Refused M365 tenants',
    h('p.lead', 'People there wrote to a bot. Switchboard refused them because it does not know which company they belong to.'), list, more);
}

/** Enables the agent of a channel, or sets another agent. True if the channel was fixed. */
async function fixChannel(item) {
  const channel = await get(path`/channels/${item.channel_id}`);
  const agent = item.agent_name === null ? null : await get(path`/agents/${item.agent_id}`);
  const canEnable = agent !== null && agent.state === 'DISABLED' && agent.managed_agent_key === null && agent.autonomy_type === 'CONVERSATIONAL';
  const done = await dialog(`Fix ${item.internal_name}`, (close) => [
    h('p', item.message),
    canEnable && button(`Enable ${agent.name}`, async () => {
      await put(path`/agents/${item.agent_id}`, { state: 'ENABLED', version: agent.version });
      close(`${agent.name} was enabled.`);
    }, { kind: 'primary' }),
    form({
      fields: [{
        name: 'agent_id', label: canEnable ? 'Or use another agent' : 'Agent', kind: 'custom', required: true,
        make: (id, _, described) => picker({ id, described, search: agents({ audience: channel.audience, state: 'ENABLED', autonomy_type: 'CONVERSATIONAL' }), placeholder: 'Search agents…' }),
      }],
      label: 'Use this agent',
      async submit(values) {
        await patch(path`/channels/${item.channel_id}`, values);
        close('The channel has an agent that can answer.');
      },
    }).element,
  ]);
  if (done === null) return false;
  toast(done);
  return true;
}

/** The statistics of the last two weeks. */
async function statistics(signal) {
  const day = 86_400_000;
  const to = Math.ceil(Date.now() / day) * day;
  const from = to - 14 * day;
  const stats = await get('/stats', { from: new Date(from).toISOString(), to: new Date(to).toISOString() }, signal);
  const byDay = new Map(stats.by_day.map((entry) => [entry.day.slice(0, 10), entry]));
  const points = (name, otherwise) => Array.from({ length: 14 }, (_, index) => {
    const date = new Date(from + index * day).toISOString();
    return { day: date, value: byDay.get(date.slice(0, 10))?.[name] ?? otherwise };
  });
  const card = (name, value, plot) => h('div.card.figure-card', h('span.figure-name', name), h('span.figure-value', value), plot);
  const failures = bars('Failed turns', points('failures', 0));
  failures.classList.add('bad');
  return section('The last two weeks',
    stats.total.sessions + stats.total.turns === 0
      ? h('div.empty', h('h3', 'No chats yet.'), h('p', 'Try an agent as a technician or as a company’s staff.'), linkButton('Try it', '#/try', { kind: 'primary' }))
      : h('div.figures',
        card('Sessions', number(stats.total.sessions), bars('Sessions', points('sessions', 0))),
        card('Turns', number(stats.total.turns), bars('Turns', points('turns', 0))),
        card('Active people', number(stats.total.active_users), bars('Active people', points('active_users', 0))),
        card('Failed turns', number(stats.total.failures), failures),
        card('Median time to first word', milliseconds(stats.total.median_first_word_ms), bars('Median time to first word', points('median_first_word_ms', null), milliseconds))));
}
