import { BadRequestException } from '@nestjs/common';
import { parsePhoneNumberFromString } from 'libphonenumber-js';

/** Reads a phone number with country code in any usual notation, or a chat id, into bare digits. */
export function digitsOf(input: string): string {
  const chat = /^(\d+)@c\.us$/.exec(input.trim());
  const text = (chat?.[1] ?? input).trim().replace(/^00/, '+');
  const parsed = parsePhoneNumberFromString(text.startsWith('+') ? text : `+${text}`);
  if (!parsed?.isPossible()) {
    throw new BadRequestException(
      `"${input}" is not a phone number: write it with its country code, for example +62 812 3456 7890.`,
    );
  }
  return parsed.number.slice(1);
}

/** WhatsApp's anonymous id of a number ("LID"). The sandbox derives it from the number, so that every page knows it. */
export function lidOf(phone: string): string {
  return `1${[...phone].reverse().join('')}`;
}

/** Whether an address belongs to a channel. */
export function isChannelId(address: string): boolean {
  return address.endsWith('@newsletter');
}

/** Whether an address belongs to a group. */
export function isGroupId(address: string): boolean {
  return address.endsWith('@g.us');
}
