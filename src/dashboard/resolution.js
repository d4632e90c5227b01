// The rules that decide which agent answers, as sentences (contract, section 3).

import { h } from './dom.js';

/** The sentence for a rule. `channel` and `company` are elements or texts that name them. */
export function explainRule(rule, { channel, company }) {
  const pinned = company ? [' The chat is pinned to ', h('strong', company), ': it never uses articles of another company.'] : ' The chat is not pinned to a company.';
  switch (rule) {
    case 'white_label_install':
      return ['The bot of ', channel, ' is installed for the M365 tenant that the message came from, so that channel’s agent answers.', pinned];
    case 'bot_channel':
      return ['The MSP has ', channel, ' registered for the bot that received the message, so that channel’s agent answers.', pinned];
    case 'neo_support':
      return ['No channel of the MSP is registered for the bot that received the message, so the managed support agent answers.', pinned];
    default:
      return [company ? 'This agent was selected directly, to try it as a company’s staff.' : 'This agent was selected directly.', pinned];
  }
}
