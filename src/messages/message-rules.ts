import { applyDecorators } from '@nestjs/common';
import { ApiProperty } from '@nestjs/swagger';
import { IsNotEmpty, IsString, Matches, registerDecorator, type ValidationArguments } from 'class-validator';
import { parseDestination, parseRecipient, recipientHint } from './recipient.js';

/* The rules of WhatsApp for the fields of a message, as decorators of class-validator. */

/** WhatsApp's own limit of a text, in UTF-16 code units. */
export const maxTextLength = 65_536;
const maxMetadataBytes = 16_384;
/** One visible emoji: also with a skin tone or joined parts, and also a flag or a keycap. */
const emoji = new RegExp('^(\\p{RGI_Emoji}|\\p{Extended_Pictographic})$', 'v');

export function IsRecipient(options?: { each: boolean }) {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isRecipient',
      target: target.constructor,
      propertyName,
      options,
      validator: {
        validate: (value: unknown) => typeof value === 'string' && parseRecipient(value) !== null,
        defaultMessage: (found) => recipientHint(firstWrong(found)),
      },
    });
}

/** A person or a group, or the place of a post. */
export function IsDestination() {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isDestination',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) => typeof value === 'string' && parseDestination(value) !== null,
        defaultMessage: (found) => recipientHint(found?.value),
      },
    });
}

/** The value that is no recipient, also if it is one value of a list. */
export function firstWrong(found: ValidationArguments | undefined): unknown {
  const value: unknown = found?.value;
  return Array.isArray(value)
    ? value.find((item) => typeof item !== 'string' || parseRecipient(item) === null)
    : value;
}

export function IsEmoji() {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isEmoji',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) =>
          value === '' || (typeof value === 'string' && value.length <= 40 && emoji.test(value)),
        defaultMessage: () => 'must be one emoji, or empty to remove the reaction',
      },
    });
}

export function IsSmallJson() {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isSmallJson',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) => Buffer.byteLength(JSON.stringify(value) ?? '') <= maxMetadataBytes,
        defaultMessage: () => `must be at most ${maxMetadataBytes} bytes of JSON`,
      },
    });
}

/** Counts UTF-16 code units, as WhatsApp does: an emoji counts as two or more. */
function IsShortEnough(): PropertyDecorator {
  return (target, propertyName) =>
    registerDecorator({
      name: 'isShortEnough',
      target: target.constructor,
      propertyName: String(propertyName),
      validator: {
        validate: (value: unknown) => typeof value === 'string' && value.length <= maxTextLength,
        defaultMessage: () => `must be at most ${maxTextLength} characters; most emoji count as two`,
      },
    });
}

export function IsMessageText() {
  return applyDecorators(
    ApiProperty({ minLength: 1, maxLength: maxTextLength, pattern: '\\S' }),
    IsString(),
    IsNotEmpty({ message: 'must not be empty' }),
    Matches(/\S/, { message: 'must not be blank' }),
    IsShortEnough(),
  );
}
