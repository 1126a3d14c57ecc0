import { ApiProperty } from '@nestjs/swagger';
import { isRFC3339, registerDecorator } from 'class-validator';

/** Longer than a time with nanoseconds and an offset. */
const maxLength = 64;

/** Validates an RFC 3339 time, which JavaScript and PostgreSQL both read. Without an offset, it would be another moment on each server. */
export function IsTime() {
  return (target: object, propertyName: string) => {
    ApiProperty({ format: 'date-time' })(target, propertyName);
    registerDecorator({
      name: 'isTime',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) =>
          typeof value === 'string' &&
          value.length <= maxLength &&
          isRFC3339(value) &&
          !Number.isNaN(Date.parse(value)) &&
          hasDay(value),
        defaultMessage: () => 'must be a time with an offset, such as 2026-11-22T10:00:00Z',
      },
    });
  };
}

/** Validates that a time is in the future. What is no time is left to {@link IsTime}. */
export function IsFutureTime() {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isFutureTime',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown) => typeof value !== 'string' || !(Date.parse(value) <= Date.now()),
        defaultMessage: () => 'must be in the future',
      },
    });
}

/** Validates that a time is later than the time in another field. What is no time is left to {@link IsTime}. */
export function IsLaterThan(other: string) {
  return (target: object, propertyName: string) =>
    registerDecorator({
      name: 'isLaterThan',
      target: target.constructor,
      propertyName,
      validator: {
        validate: (value: unknown, found) =>
          !(timeOf(value) <= timeOf((found?.object as Record<string, unknown>)[other])),
        defaultMessage: () => `must be later than ${other}`,
      },
    });
}

function timeOf(value: unknown): number {
  return typeof value === 'string' ? Date.parse(value) : NaN;
}

/** Whether the day exists: JavaScript reads the 30th of February as the 2nd of March. */
function hasDay(time: string): boolean {
  const day = time.slice(0, 10);
  return new Date(`${day}T00:00:00Z`).toISOString().slice(0, 10) === day;
}
