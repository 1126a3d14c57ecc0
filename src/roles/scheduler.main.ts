import { createContext, startRole } from '../platform/start-role.js';
import { SchedulerModule } from './scheduler.module.js';

void startRole('scheduler', (config, logger) => createContext(SchedulerModule, config, logger));
