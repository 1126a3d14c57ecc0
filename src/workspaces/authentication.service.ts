import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import { Repository } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { ReadCache } from '../platform/database/read-cache.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { ApiKey, type KeyRole } from './api-key.entity.js';
import { hashKey } from './api-keys.service.js';

/** Which key it is, for a log. */
export type KnownKey = Pick<ApiKey, 'id' | 'prefix' | 'workspaceId'>;

/** Who makes a request. */
export type Principal =
  | { kind: 'admin' }
  | {
      kind: 'workspace';
      workspaceId: string;
      role: KeyRole;
      keyId: string;
      keyPrefix: string;
      expiresAt: Date | null;
    };

export class AuthenticationRequired extends Problem {
  constructor(detail = 'Send your API key as "Authorization: Bearer KEY" or "X-Api-Key: KEY".') {
    super(401, 'auth.required', detail);
  }
}

export class InvalidKey extends Problem {
  /** @param key which key it is, when it exists and may not be used now, or from there */
  constructor(
    detail = 'This API key is not known, has expired, or was deleted.',
    readonly key?: KnownKey,
  ) {
    super(401, 'auth.invalid_key', detail);
  }
}

/** A key as it was found, with the question that each request asks of it. */
interface FoundKey {
  key: ApiKey;
  isAllowed: (ip: string) => boolean;
}

/** Tells who an API key belongs to. */
@Injectable()
export class AuthenticationService implements OnModuleDestroy {
  private readonly cache: ReadCache<FoundKey>;
  private readonly adminHash: Buffer;

  constructor(
    @InjectRepository(ApiKey) private readonly keys: Repository<ApiKey>,
    @Inject(CONFIG) config: Config,
    @Inject(LOGGER) logger: Logger,
  ) {
    this.adminHash = hashKey(config.adminApiKey);
    this.cache = new ReadCache(config, logger, 'flotilla_keys', (keyId, _hash, { key }) => key.id === keyId);
  }

  async onModuleDestroy(): Promise<void> {
    await this.cache.stop();
  }

  /** Begins to hear of changes, which the first key would do otherwise. */
  listen(): void {
    this.cache.start();
  }

  /** Calls `follow` with the id of each key that has been deleted or changed, by whatever process; null: any may have, unheard. */
  onChange(follow: (keyId: string | null) => void): void {
    this.cache.onChange(follow);
  }

  /**
   * @param hash of what the caller sent; undefined when nothing was sent
   * @param ip the caller's address
   * @throws AuthenticationRequired, InvalidKey
   */
  async authenticate(hash: Buffer | undefined, ip: string): Promise<Principal> {
    if (!hash) throw new AuthenticationRequired();
    if (this.isAdmin(hash)) return { kind: 'admin' };
    const found = await this.cache.get(hash.toString('base64'), () => this.find(hash));
    if (!found) throw new InvalidKey();
    const { id, workspaceId, role, prefix, expiresAt } = found.key;
    if (expiresAt && expiresAt.getTime() <= Date.now()) throw new InvalidKey(undefined, found.key);
    if (!found.isAllowed(ip)) throw new InvalidKey(`This API key may not be used from ${ip}.`, found.key);
    return { kind: 'workspace', workspaceId, role, keyId: id, keyPrefix: prefix, expiresAt };
  }

  /** Whether a key, which is given by its hash, is the platform's own. */
  isAdmin(hash: Buffer): boolean {
    return timingSafeEqual(hash, this.adminHash);
  }

  private async find(hash: Buffer): Promise<FoundKey | null> {
    const key = await this.keys.findOneBy({ keyHash: hash });
    if (!key) return null;
    if (!key.lastUsedAt || Date.now() - key.lastUsedAt.getTime() > 60_000) {
      await this.keys.update({ id: key.id }, { lastUsedAt: new Date() });
    }
    return { key, isAllowed: allows(key.allowedIps) };
  }
}

function allows(ranges: string[] | null): (ip: string) => boolean {
  if (!ranges) return () => true;
  const list = new BlockList();
  for (const range of ranges) {
    const [network = '', bits] = range.split('/');
    const family = isIP(network) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(network, family);
    else list.addSubnet(network, Number(bits), family);
  }
  return (ip) => {
    const address = ip.replace(/^::ffff:/, '');
    return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
  };
}
