import { Module } from '@nestjs/common';
import { SharedCounts } from './shared-counts.js';

/** Counts of limits, which all processes with a connection to Redis share. */
@Module({ providers: [SharedCounts], exports: [SharedCounts] })
export class SharedCountsModule {}
