import { Type } from 'class-transformer';
import { IsIn, IsNotEmpty, IsString, MaxLength, ValidateNested } from 'class-validator';
import { Optional } from '../../platform/http/optional.js';
import { PhoneMediaDto } from './messages.dto.js';

/** A story of a phone's owner. */
export class StoryDto {
  @IsIn(['text', 'image', 'video'])
  type: 'text' | 'image' | 'video' = 'text';

  /** The text, or the caption. */
  @Optional()
  @IsString()
  @IsNotEmpty()
  @MaxLength(65_536)
  text?: string;

  @Optional()
  @ValidateNested()
  @Type(() => PhoneMediaDto)
  media?: PhoneMediaDto;
}
