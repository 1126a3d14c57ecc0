import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { InstanceClient } from './instance-client.js';
import { Instance } from './instance.entity.js';
import { InstancesService } from './instances.service.js';

@Module({
  imports: [TypeOrmModule.forFeature([Instance])],
  providers: [InstancesService, InstanceClient],
  exports: [InstancesService, InstanceClient],
})
export class InstancesModule {}
