import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { InstanceClient } from './instance-client.js';
import { Instance } from './instance.entity.js';
import { InstancesService } from './instances.service.js';
import { LoadBalancingService } from './load-balancing.service.js';
import { LogsService } from './logs.service.js';
import { Server } from './server.entity.js';
import { ServersService } from './servers.service.js';
import { StatsSampler } from './stats-sampler.js';
import { StatsService } from './stats.service.js';

const services = [
  InstancesService,
  ServersService,
  LogsService,
  StatsService,
  StatsSampler,
  LoadBalancingService,
  InstanceClient,
];

@Module({
  imports: [TypeOrmModule.forFeature([Instance, Server])],
  providers: services,
  exports: services,
})
export class InstancesModule {}
