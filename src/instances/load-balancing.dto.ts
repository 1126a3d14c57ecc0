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
  @Length(1, 100)
  @IsString()
  environment?: string;

  /** @example US-East */
  @Optional()
  @Length(1, 100)
  @IsString()
  location?: string;

  /** The server must have all of them. */
  @Optional()
  @ArrayMaxSize(20)
  @Length(1, 100, { each: true })
  @IsString({ each: true })
  @IsArray()
  tags?: string[];

  /** How many places the server must have free. */
  @Optional()
  @Min(1)
  @Max(100_000)
  @IsInt()
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
  /** All that there are. */
  strategies!: Strategy[];
  /** What is in force. */
  shardSize!: number;
  filters!: PlacementFiltersDto;
  updatedAt!: string;
}
