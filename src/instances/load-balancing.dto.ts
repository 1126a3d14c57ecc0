import { Transform, Type } from 'class-transformer';
import {
  ArrayMaxSize,
  IsArray,
  IsIn,
  IsInt,
  IsObject,
  IsOptional,
  IsString,
  Length,
  Max,
  Min,
  ValidateNested,
} from 'class-validator';
import { Optional } from '../platform/http/optional.js';
import { type PlacementFilters, strategies, type Strategy } from './simple-load-balancer.js';

/** Which servers accounts may be placed on; what is left out does not matter. */
export class PlacementFiltersDto implements PlacementFilters {
  /** @example production */
  @Optional()
  @IsString()
  @Length(1, 100)
  environment?: string;

  /** @example US-East */
  @Optional()
  @IsString()
  @Length(1, 100)
  location?: string;

  /** The server must have all of them. */
  @Optional()
  @IsArray()
  @ArrayMaxSize(20)
  @IsString({ each: true })
  @Length(1, 100, { each: true })
  tags?: string[];

  /** How many places the server must have free. */
  @Optional()
  @IsInt()
  @Min(1)
  @Max(100_000)
  minCapacity?: number;
}

export class LoadBalancingDto {
  /** How an instance is chosen; `least-sessions` is understood too. */
  @Transform(({ value }: { value: unknown }) =>
    typeof value === 'string' ? value.replaceAll('-', '_') : value,
  )
  @IsIn(strategies)
  strategy!: Strategy;

  /** How many instances a workspace's accounts are to lie on; null or left out: `ROUTER_SHARD_SIZE`. */
  @IsOptional()
  @IsInt()
  @Min(1)
  @Max(1_000)
  shardSize?: number | null;

  /** Left out: all servers. */
  @Optional()
  @IsObject()
  @ValidateNested()
  @Type(() => PlacementFiltersDto)
  filters?: PlacementFiltersDto;
}

export class LoadBalancingResponse {
  strategy!: Strategy;
  /** All that there are. */
  strategies!: readonly Strategy[];
  /** What is in force. */
  shardSize!: number;
  filters!: PlacementFiltersDto;
  updatedAt!: string;
}
