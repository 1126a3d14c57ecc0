import { Transform, Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsIn,
  IsInt,
  IsObject,
  IsString,
  Length,
  Max,
  Min,
  ValidateNested,
} from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import { type PlacementFilters, strategies, type Strategy } from './simple-load-balancer.js';

/** Which servers may take accounts. A filter that is left out allows every server. */
export class PlacementFiltersDto implements PlacementFilters {
  /** @example production */
  @Optional()
  @Length(1, 100)
  @IsString()
  environment?: string;

  /** @example US-East */
  @Optional()
  @Length(1, 100)
  @IsString()
  location?: string;

  /** The server must have all of these tags. */
  @Optional()
  @ArrayMaxSize(20)
  @Length(1, 100, { each: true })
  @IsString({ each: true })
  @IsArray()
  tags?: string[];

  /** The server must have at least this many free places. */
  @Optional()
  @Min(1)
  @Max(100_000)
  @IsInt()
  minCapacity?: number;
}

export class LoadBalancingDto {
  /** How Flotilla chooses an instance. Hyphens are accepted too: `least-sessions`. */
  @Transform(({ value }: { value: unknown }) =>
    typeof value === 'string' ? value.replaceAll('-', '_') : value,
  )
  @IsIn(strategies)
  strategy!: Strategy;

  /** How many instances the accounts of a workspace should use. Null or left out: `ROUTER_SHARD_SIZE`. */
  @Optional()
  @Min(1)
  @Max(1_000)
  @IsInt()
  shardSize?: number | null;

  /** Left out: all servers. */
  @Optional()
  @ValidateNested()
  @Type(() => PlacementFiltersDto)
  @IsObject()
  filters?: PlacementFiltersDto;
}

export class LoadBalancingResponse {
  strategy!: Strategy;
  /** All strategies. */
  strategies!: Strategy[];
  /** The value in force. */
  shardSize!: number;
  filters!: PlacementFiltersDto;
  updatedAt!: string;
}
