import { Body, Controller, Get, HttpCode, Param, Post, Query } from '@nestjs/common';
import { AssignmentsService } from '../accounts/assignments.service.js';
import {
  DistributionResponse,
  InstanceResponse,
  RebalanceDto,
  RebalanceResponse,
  toInstanceResponse,
} from '../instances/instances.dto.js';
import { InstanceNotFound, InstancesService } from '../instances/instances.service.js';
import { ListServersQuery } from '../instances/servers.dto.js';
import { Fails, Paged } from '../platform/http/documentation.js';
import { type Page, toPage } from '../platform/http/pagination.js';
import { Allow } from '../workspaces/auth.guard.js';

/** The fleet, for operators. */
@Allow('admin')
@Controller('admin')
export class AdminController {
  constructor(
    private readonly instances: InstancesService,
    private readonly assignments: AssignmentsService,
  ) {}

  /** Lists the instances by id, with their load. */
  @Paged(InstanceResponse)
  @Get('instances')
  async listInstances(@Query() query: ListServersQuery): Promise<Page<InstanceResponse>> {
    return toPage(await this.instances.list(query), query.limit, toInstanceResponse);
  }

  /** Drains an instance: it gets no more accounts, and its accounts move to other instances, a few at a time, where there is room. */
  @Fails(InstanceNotFound)
  @Post('instances/:id/drain')
  @HttpCode(200)
  async drain(@Param('id') id: string): Promise<InstanceResponse> {
    return toInstanceResponse(await this.instances.setDraining(id, true));
  }

  /** Ends the draining of an instance: it may take accounts again. */
  @Fails(InstanceNotFound)
  @Post('instances/:id/activate')
  @HttpCode(200)
  async activate(@Param('id') id: string): Promise<InstanceResponse> {
    return toInstanceResponse(await this.instances.setDraining(id, false));
  }

  /** Moves accounts until the load is even. With `dryRun` it moves nothing and lists the moves. */
  @Post('rebalance')
  @HttpCode(200)
  async rebalance(@Body() { dryRun }: RebalanceDto = new RebalanceDto()): Promise<RebalanceResponse> {
    return { moves: await this.assignments.rebalance(dryRun) };
  }

  /** Shows how evenly the accounts are distributed over the instances. */
  @Get('distribution')
  async distribution(): Promise<DistributionResponse> {
    return this.instances.distribution();
  }
}
