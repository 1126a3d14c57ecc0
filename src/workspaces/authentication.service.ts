import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import { Repository } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Notifications } from '../platform/database/notifications.js';
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

/**
 * How long a key that was found is believed without asking the database. A change is heard of at once; this is the longest
 * that a deleted key still works when the connection on which that is heard is broken.
 */
const cacheMs = 2_000;
const cacheSize = 10_000;

/** Tells who an API key belongs to. */
@Injectable()
export class AuthenticationService implements OnModuleDestroy {
  private readonly cache = new Map<string, { key: ApiKey; until: number }>();
  /** Grows whenever a key has changed: what was read before then is not kept. */
  private changes = 0;
  private readonly followers: ((keyId: string) => void)[] = [];
  private readonly notifications: Notifications;
  private readonly adminHash: Buffer;

  constructor(
    @InjectRepository(ApiKey) private readonly keys: Repository<ApiKey>,
    @Inject(CONFIG) config: Config,
    @Inject(LOGGER) logger: Logger,
  ) {
    this.adminHash = hashKey(config.adminApiKey);
    this.notifications = new Notifications(config, logger, ['flotilla_keys'], {
      heard: (_channel, keyId) => this.forget(keyId),
      missed: () => this.forgetAll(),
    });
  }

  async onModuleDestroy(): Promise<void> {
    await this.notifications.stop();
  }

  /** Calls `follow` with the id of each key that has been deleted or changed, by whatever process. */
  onChange(follow: (keyId: string) => void): void {
    this.followers.push(follow);
  }

  /**
   * @param key what the caller sent; undefined when nothing was sent
   * @param ip the caller's address
   * @throws AuthenticationRequired, InvalidKey
   */
  async authenticate(key: string | undefined, ip: string): Promise<Principal> {
    if (!key) throw new AuthenticationRequired();
    const hash = hashKey(key);
    if (this.isAdmin(key)) return { kind: 'admin' };
    const found = await this.find(hash);
    if (!found) throw new InvalidKey();
    const { id, workspaceId, role, prefix, expiresAt, allowedIps } = found;
    if (expiresAt && expiresAt.getTime() <= Date.now()) throw new InvalidKey(undefined, found);
    if (allowedIps && !isAllowed(ip, allowedIps)) {
      throw new InvalidKey(`This API key may not be used from ${ip}.`, found);
    }
    return { kind: 'workspace', workspaceId, role, keyId: id, keyPrefix: prefix, expiresAt };
  }

  /** Whether a key is the platform's own. */
  isAdmin(key: string): boolean {
    return timingSafeEqual(hashKey(key), this.adminHash);
  }

  private async find(hash: Buffer): Promise<ApiKey | null> {
    const id = hash.toString('base64');
    const cached = this.cache.get(id);
    if (cached && cached.until > Date.now()) return cached.key;
    this.cache.delete(id);
    this.notifications.start();
    const { changes } = this;
    const key = await this.keys.findOneBy({ keyHash: hash });
    if (!key) return null;
    if (this.cache.size >= cacheSize) this.cache.clear();
    if (changes === this.changes) this.cache.set(id, { key, until: Date.now() + cacheMs });
    if (!key.lastUsedAt || Date.now() - key.lastUsedAt.getTime() > 60_000) {
      await this.keys.update({ id: key.id }, { lastUsedAt: new Date() });
    }
    return key;
  }

  private forget(keyId: string): void {
    this.changes += 1;
    for (const [hash, { key }] of this.cache) if (key.id === keyId) this.cache.delete(hash);
    for (const follow of this.followers) follow(keyId);
  }

  private forgetAll(): void {
    this.changes += 1;
    this.cache.clear();
  }
}

function isAllowed(ip: string, ranges: string[]): boolean {
  const address = ip.replace(/^::ffff:/, '');
  const list = new BlockList();
  for (const range of ranges) {
    const [network = '', bits] = range.split('/');
    const family = isIP(network) === 6 ? 'ipv6' : 'ipv4';
    if (bits === undefined) list.addAddress(network, family);
    else list.addSubnet(network, Number(bits), family);
  }
  return list.check(address, isIP(address) === 6 ? 'ipv6' : 'ipv4');
}
