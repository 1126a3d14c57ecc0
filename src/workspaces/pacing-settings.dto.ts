import { Type } from 'class-transformer';
import { IsBoolean, IsInt, IsNumber, IsObject, Max, Min, ValidateNested } from 'class-validator';
import { Optional } from '../platform/http/optional.js';

// Of the rules of a field the one nearest to it is looked at first, so the type comes last: its message is the clearest.

const IsSeconds = (): PropertyDecorator => (target, name) => {
  Min(0)(target, name as string);
  Max(86_400)(target, name as string);
  IsNumber()(target, name as string);
};

/** Seconds between two messages of a priority, give or take the jitter. */
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

/** After so many normal and campaign messages without a pause there is one. Urgent and high ones go on. */
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

/** How many messages a UTC day may carry. */
export class PacingBudgetDto {
  /** To contacts that have never written to the account; 0 sends none at all. */
  @Optional()
  @Min(0)
  @Max(1_000_000)
  @IsInt()
  cold?: number;

  /** To contacts that have, and to groups. */
  @Optional()
  @Min(0)
  @Max(1_000_000)
  @IsInt()
  replies?: number;
}

/** A new account begins with a part of its budget, which grows every day. */
export class PacingWarmUpDto {
  /** How many days it takes; 0 for a number that is in use already. */
  @Optional()
  @Min(0)
  @Max(365)
  @IsInt()
  days?: number;

  /** The part of the budget, in percent, that the first day has. */
  @Optional()
  @Min(1)
  @Max(100)
  @IsNumber()
  startPercent?: number;
}

/** When messages to cold contacts stop after WhatsApp has refused some of them. */
export class PacingColdPauseDto {
  /** How many refusals of a day it takes. */
  @Optional()
  @Min(1)
  @Max(10_000)
  @IsInt()
  afterRefusals?: number;

  /** After this time they go on by themselves. */
  @Optional()
  @Min(1)
  @Max(43_200)
  @IsInt()
  coolDownMinutes?: number;
}

/**
 * How carefully an account sends. What is left out is as the workspace says, and where that says nothing either, as
 * Flotilla's defaults do: on for live accounts, off for sandbox ones.
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

  /** How far a gap or a pause may be from what is set: 0.25 is up to a quarter shorter or longer. */
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

  /** Whether the recipient sees that somebody types before the message comes. */
  @Optional()
  @IsBoolean()
  typing?: boolean;

  /** Whether WhatsApp is asked for a number before the first message to a cold contact. */
  @Optional()
  @IsBoolean()
  checkNumbers?: boolean;

  @Optional()
  @ValidateNested()
  @Type(() => PacingColdPauseDto)
  @IsObject()
  coldPause?: PacingColdPauseDto;
}
