import { getDataSourceToken } from '@nestjs/typeorm';
import type { AddressInfo } from 'node:net';
import type { DataSource } from 'typeorm';
import type { Config } from '../../src/platform/config/config.js';
import { createLogger } from '../../src/platform/logging/logger.js';
import { createApp } from '../../src/platform/start-role.js';
import { configureApi, httpOptionsOf } from '../../src/roles/api.http.js';
import { ApiModule } from '../../src/roles/api.module.js';

export interface Answer {
  status: number;
  headers: Headers;
  // eslint-disable-next-line @typescript-eslint/no-explicit-any -- what a caller of the API sees: JSON of any shape
  body: any;
}

/** The API itself, in this process, on a port of its own. */
export interface Api {
  database: DataSource;
  url: string;
  /** Calls it below `/api/v1`; with the admin key unless another is given, null: none. */
  call(method: string, path: string, body?: unknown, key?: string | null): Promise<Answer>;
  close(): Promise<void>;
}

export async function startApi(config: Config): Promise<Api> {
  const logger = createLogger('test', 'silent');
  const app = await createApp(ApiModule, config, logger, configureApi(config), httpOptionsOf(config));
  await app.listen(0, '127.0.0.1');
  const url = `http://127.0.0.1:${(app.getHttpServer().address() as AddressInfo).port}/api/v1`;
  return {
    database: app.get<DataSource>(getDataSourceToken()),
    url,
    call: async (method, path, body, key = config.adminApiKey) => {
      const response = await fetch(`${url}${path}`, {
        method,
        headers: {
          ...(key === null ? {} : { authorization: `Bearer ${key}` }),
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      const text = await response.text();
      return {
        status: response.status,
        headers: response.headers,
        body: text === '' ? null : JSON.parse(text),
      };
    },
    close: () => app.close(),
  };
}
