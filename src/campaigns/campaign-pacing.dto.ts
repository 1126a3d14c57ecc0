import { ApiPropertyOptional, ApiExtraModels, getSchemaPath } from '@nestjs/swagger';
import { Transform, Type } from 'class-transformer';
import {
  ArrayMaxSize,
  ArrayMinSize,
  ArrayUnique,
  IsArray,
  IsIn,
  IsInt,
  IsNumber,
  IsObject,
  IsOptional,
  Matches,
  Max,
  Min,
  registerDecorator,
  ValidateNested,
} from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import { type PacePresetName, pacePresetNames } from './pace.js';
import { type Day, days, isTimeZone, timePattern } from './sending-windows.js';

// The rule nearest to a field is checked first. The rule for the type stands there, because its message is the clearest.

const maxSeconds = 86_400;
const maxWindows = 20;

function IsSeconds(): PropertyDecorator {
  return (target, name) => {
    IsNumber()(target, name as string);
    Min(0)(target, name as string);
    Max(maxSeconds)(target, name as string);
  };
}

function IsNotBelow(other: string): PropertyDecorator {
  return (target, propertyName) =>
    registerDecorator({
      name: 'isNotBelow',
      target: target.constructor,
      propertyName: String(propertyName),
      validator: {
        validate: (value: unknown, found) => {
          const least = (found?.object as Record<string, unknown>)[other];
          return typeof value !== 'number' || typeof least !== 'number' || value >= least;
        },
        defaultMessage: () => `must be at least ${other}`,
      },
    });
}

function IsTimeOfDay(): PropertyDecorator {
  return Matches(timePattern, {
    message: 'must be a time of the day as HH:MM, for example 09:00 or 21:30',
  });
}

function IsTimeZone(): PropertyDecorator {
  return (target, propertyName) =>
    registerDecorator({
      name: 'isTimeZone',
      target: target.constructor,
      propertyName: String(propertyName),
      validator: {
        validate: (value: unknown) =>
          typeof value === 'string' && (value === 'recipient' || isTimeZone(value)),
        defaultMessage: () => 'must be recipient, or the IANA name of a time zone, for example Asia/Jakarta',
      },
    });
}

/** Seconds between two messages: a random number between `from` and `to`, plus or minus the jitter. */
export class CampaignGapDto {
  /** @example 45 */
  @IsSeconds()
  from!: number;

  /** @example 60 */
  @IsNotBelow('from')
  @IsSeconds()
  to!: number;
}

/** After `size` messages of the campaign in a row, the account sends no message of the campaign for `pauseSeconds`, plus or minus the jitter. */
export class CampaignBatchDto {
  /** @example 20 */
  @Min(1)
  @Max(100_000)
  @IsInt()
  size!: number;

  /** @example 180 */
  @IsSeconds()
  pauseSeconds!: number;
}

/**
 * How fast each account sends the campaign. The account's own pacing holds as well, so that a campaign can only be slower than the account.
 * Without these settings, a campaign is as fast as its accounts.
 */
@ApiExtraModels(CampaignGapDto)
export class CampaignPacingDto {
  /**
   * A set of values for the fields below; a field that is given replaces its value. Seconds between messages, messages in a batch and
   * seconds of a pause: `paranoid` 90 to 120, 10, 300; `safe` 45 to 60, 20, 180; `balanced` 30 to 45, 25, 150; `fast` 20 to 30, 30, 120;
   * `aggressive` 10 to 20, 40, 90. The names are those of the system that the values come from. They promise nothing.
   */
  @Optional()
  @IsIn(pacePresetNames)
  preset?: PacePresetName;

  /**
   * Seconds between two messages: a number, or a range. Default: the preset's, else 0.
   * @example { "from": 45, "to": 60 }
   */
  @Optional()
  @ApiPropertyOptional({
    oneOf: [{ type: 'number', minimum: 0, maximum: maxSeconds }, { $ref: getSchemaPath(CampaignGapDto) }],
  })
  @ValidateNested()
  @IsObject({ message: 'must be a number of seconds, or a range such as {"from": 45, "to": 60}' })
  @Type(() => CampaignGapDto)
  @Transform(({ value }) => gapOf(value))
  gapSeconds?: CampaignGapDto;

  /** The random variation of gaps and pauses. 0.25 means up to a quarter shorter or longer. Default: 0.25. */
  @Optional()
  @Min(0)
  @Max(1)
  @IsNumber()
  jitter?: number;

  /** Default: the preset's, else no pauses. */
  @Optional()
  @ValidateNested()
  @Type(() => CampaignBatchDto)
  @IsObject()
  batch?: CampaignBatchDto;

  /** The maximum number of messages of this campaign, for each account and UTC day. Default: the daily budget of the account only. */
  @Optional()
  @Min(1)
  @Max(1_000_000)
  @IsInt()
  dailyCap?: number;
}

function gapOf(value: unknown): unknown {
  return typeof value === 'number' ? Object.assign(new CampaignGapDto(), { from: value, to: value }) : value;
}

/** When a campaign pauses itself. */
export class CampaignSafetyDto {
  /** It pauses if more than so many percent of its last messages have failed. 100: it never does. Default: 30. */
  @Optional()
  @Min(1)
  @Max(100)
  @IsNumber()
  failedPercent?: number;

  /** How many messages must have ended first, and how many of the last ones count. Default: 50. */
  @Optional()
  @Min(1)
  @Max(1_000)
  @IsInt()
  ofLast?: number;

  /** An account gets no recipient for so many seconds after its owner wrote a message on the phone. Default: 0. */
  @Optional()
  @IsSeconds()
  afterPhoneSeconds?: number;
}

/** Messages may leave between `from` and `to`. If `to` is before `from`, the window ends on the next day. */
export class SendingWindowDto {
  /**
   * The days on which the window begins. Default: every day.
   * @example ["mon", "tue", "wed", "thu", "fri"]
   */
  @Optional()
  @IsIn(days, { each: true })
  @ArrayUnique({ message: 'must all be different' })
  @ArrayMinSize(1)
  @ArrayMaxSize(days.length)
  @IsArray()
  days?: Day[];

  /** @example 09:00 */
  @IsTimeOfDay()
  from!: string;

  /**
   * `24:00` is the end of the day.
   * @example 17:00
   */
  @IsTimeOfDay()
  to!: string;
}

/** No message leaves between `from` and `to`, on any day. If `to` is before `from`, the quiet hours end on the next day. */
export class QuietHoursDto {
  /** @example 21:00 */
  @IsTimeOfDay()
  from!: string;

  /** @example 08:00 */
  @IsTimeOfDay()
  to!: string;
}

/** When messages of a campaign may leave. A message that is due at another time waits. */
export class SendingTimesDto {
  /** Default: every time outside the quiet hours. */
  @IsOptional()
  @ValidateNested({ each: true })
  @Type(() => SendingWindowDto)
  @IsObject({ each: true })
  @ArrayMinSize(1)
  @ArrayMaxSize(maxWindows)
  @IsArray()
  windows?: SendingWindowDto[] | null;

  /** Default: none. */
  @IsOptional()
  @ValidateNested()
  @Type(() => QuietHoursDto)
  @IsObject()
  quietHours?: QuietHoursDto | null;

  /**
   * Whose clock counts. `recipient` (default): the clock of the country of the number; where a country has several zones, a time is allowed
   * only if it is allowed in all of them. The IANA name of a zone: its clock, for everybody.
   * @example Asia/Jakarta
   */
  @IsOptional()
  @IsTimeZone()
  timeZone?: string | null;
}
