import { IsBoolean, IsNotEmpty, IsString, MaxLength } from 'class-validator';

/** A call by the owner of a phone. */
export class CallDto {
  /** The number of the called phone. */
  @IsString()
  @IsNotEmpty()
  @MaxLength(40)
  to!: string;

  @IsBoolean()
  video = false;
}
