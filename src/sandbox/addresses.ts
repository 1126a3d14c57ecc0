import { BadRequestException } from '@nestjs/common';
import { parsePhoneNumber } from '../platform/http/phone-number.js';

/** Reads a phone number with country code in any usual notation, or a chat id, into bare digits. */
export function digitsOf(input: string): string {
  const digits = parsePhoneNumber(input);
  if (digits === null) {
    throw new BadRequestException(
      `"${input}" is not a phone number: write it with its country code, for example +62 812 3456 7890.`,
    );
  }
  return digits;
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
