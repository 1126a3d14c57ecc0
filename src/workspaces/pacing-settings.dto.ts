import { Type } from 'class-transformer';
import { IsBoolean, IsInt, IsNumber, IsObject, Max, Min, ValidateNested } from 'class-validator';
import { Optional } from '../platform/http/optional.js';

// The rule nearest to a field is checked first. The rule for the type stands there, because its message is the clearest.

const IsSeconds = (): PropertyDecorator => (target, name) => {
  Min(0)(target, name as string);
  Max(86_400)(target, name as string);
  IsNumber()(target, name as string);
};

/** Seconds between two messages of a priority, plus or minus the jitter. */
export class PacingGapsDto {
  @Optional()
  @IsSeconds()
  urgent?: number;

  @Optional()
  @IsSeconds()
  high?: number;

  @Optional()
  @IsSeconds()
  normal?: number;

  @Optional()
  @IsSeconds()
  campaign?: number;
}

/** After `size` normal and campaign messages in a row, the account pauses. Urgent and high messages do not pause. */
export class PacingBurstDto {
  @Optional()
  @Min(1)
  @Max(100_000)
  @IsInt()
  size?: number;

  @Optional()
  @IsSeconds()
  pauseSeconds?: number;
}

/** The maximum number of messages per UTC day. */
export class PacingBudgetDto {
  /** Messages to contacts that have never written to the account. 0 sends no such messages. */
  @Optional()
  @Min(0)
  @Max(1_000_000)
  @IsInt()
  cold?: number;

  /** Messages to contacts that have written to the account, and to groups. */
  @Optional()
  @Min(0)
  @Max(1_000_000)
  @IsInt()
  replies?: number;
}

/** A new account starts with a part of its budget. The part grows every day. */
export class PacingWarmUpDto {
  /** The number of days until the full budget. Use 0 for a number that is already in use. */
  @Optional()
  @Min(0)
  @Max(365)
  @IsInt()
  days?: number;

  /** The part of the budget on the first day, in percent. */
  @Optional()
  @Min(1)
  @Max(100)
  @IsNumber()
  startPercent?: number;
}

/** Pauses messages to cold contacts after WhatsApp has refused some of them. */
export class PacingColdPauseDto {
  /** The number of refusals in a day that starts the pause. */
  @Optional()
  @Min(1)
  @Max(10_000)
  @IsInt()
  afterRefusals?: number;

  /** The length of the pause, in minutes. */
  @Optional()
  @Min(1)
  @Max(43_200)
  @IsInt()
  coolDownMinutes?: number;
}

/**
 * Account safety: how carefully an account sends. A field that is left out has the value of the workspace. If the workspace has no
 * value either, Flotilla's default applies. By default pacing is on for live accounts and off for sandbox accounts.
 */
export class PacingDto {
  @Optional()
  @IsBoolean()
  enabled?: boolean;

  @Optional()
  @ValidateNested()
  @Type(() => PacingGapsDto)
  @IsObject()
  gapSeconds?: PacingGapsDto;

  /** The random variation of gaps and pauses. 0.25 means up to a quarter shorter or longer. */
  @Optional()
  @Min(0)
  @Max(1)
  @IsNumber()
  jitter?: number;

  @Optional()
  @ValidateNested()
  @Type(() => PacingBurstDto)
  @IsObject()
  burst?: PacingBurstDto;

  @Optional()
  @ValidateNested()
  @Type(() => PacingBudgetDto)
  @IsObject()
  dailyBudget?: PacingBudgetDto;

  @Optional()
  @ValidateNested()
  @Type(() => PacingWarmUpDto)
  @IsObject()
  warmUp?: PacingWarmUpDto;

  /** Whether the recipient sees "typing…" before a message arrives. */
  @Optional()
  @IsBoolean()
  typing?: boolean;

  /** Whether Flotilla checks that a number has WhatsApp before the first message to a cold contact. */
  @Optional()
  @IsBoolean()
  checkNumbers?: boolean;

  @Optional()
  @ValidateNested()
  @Type(() => PacingColdPauseDto)
  @IsObject()
  coldPause?: PacingColdPauseDto;
}
