import { IsBoolean, IsISO8601, IsNotEmpty, IsString, MaxLength } from 'class-validator';
import { Optional } from '../../platform/http/optional.js';

/** A call by the owner of a phone. */
export class CallDto {
  /** The number of the called phone, or the address of a group. */
  @IsString()
  @IsNotEmpty()
  @MaxLength(64)
  to!: string;

  @IsBoolean()
  video = false;

  /** When it began, by default now: WhatsApp may tell a page of a call that is over. */
  @Optional()
  @IsISO8601()
  at?: string;
}
