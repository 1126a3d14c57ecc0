import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import { Repository } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { ApiKey, type KeyRole } from './api-key.entity.js';
import { hashKey } from './workspaces.service.js';

/** Who makes a request. */
export type Principal =
  { kind: 'admin' } | { kind: 'workspace'; workspaceId: string; role: KeyRole; keyId: string };

export class AuthenticationRequired extends Problem {
  constructor(detail = 'Send your API key as "Authorization: Bearer KEY" or "X-Api-Key: KEY".') {
    super(401, 'auth.required', detail);
  }
}

export class InvalidKey extends Problem {
  constructor(detail = 'This API key is not known, has expired, or was deleted.') {
    super(401, 'auth.invalid_key', detail);
  }
}

/** How long a key that was found is believed without asking the database: the longest a deleted key still works. */
const cacheMs = 2_000;
const cacheSize = 10_000;

/** Tells who an API key belongs to. */
@Injectable()
export class AuthenticationService {
  private readonly cache = new Map<string, { key: ApiKey; until: number }>();
  private readonly adminHash: Buffer;

  constructor(
    @InjectRepository(ApiKey) private readonly keys: Repository<ApiKey>,
    @Inject(CONFIG) config: Config,
  ) {
    this.adminHash = hashKey(config.adminApiKey);
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
    if (!found || (found.expiresAt && found.expiresAt.getTime() <= Date.now())) throw new InvalidKey();
    if (found.allowedIps && !isAllowed(ip, found.allowedIps)) {
      throw new InvalidKey(`This API key may not be used from ${ip}.`);
    }
    return { kind: 'workspace', workspaceId: found.workspaceId, role: found.role, keyId: found.id };
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
    const key = await this.keys.findOneBy({ keyHash: hash });
    if (!key) return null;
    if (this.cache.size >= cacheSize) this.cache.clear();
    this.cache.set(id, { key, until: Date.now() + cacheMs });
    if (!key.lastUsedAt || Date.now() - key.lastUsedAt.getTime() > 60_000) {
      await this.keys.update({ id: key.id }, { lastUsedAt: new Date() });
    }
    return key;
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
