import { Body, Controller, Get, Put } from '@nestjs/common';
import { LoadBalancingDto, LoadBalancingResponse } from './load-balancing.dto.js';
import { LoadBalancingService } from './load-balancing.service.js';
import { Allow } from '../workspaces/auth.guard.js';

/** How Flotilla places accounts on instances. */
@Allow('admin')
@Controller('admin/load-balancing')
export class LoadBalancingController {
  constructor(private readonly loadBalancing: LoadBalancingService) {}

  /** Shows the settings of the placement of accounts. */
  @Get()
  async get(): Promise<LoadBalancingResponse> {
    return this.loadBalancing.get();
  }

  /** Replaces the settings. Accounts that have a place keep it. */
  @Put()
  async set(@Body() body: LoadBalancingDto): Promise<LoadBalancingResponse> {
    return this.loadBalancing.set(body);
  }
}
