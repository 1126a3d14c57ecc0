import { listen, startRole } from '../platform/start-role.js';
import { ApiModule } from './api.module.js';
import { configureApi, httpOptionsOf } from './api.http.js';

void startRole('api', (config, logger) =>
  listen(ApiModule, config, logger, config.http, configureApi(config), httpOptionsOf(config)),
);
