import { Inject, Injectable, type OnModuleDestroy } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { timingSafeEqual } from 'node:crypto';
import { BlockList, isIP } from 'node:net';
import { LRUCache } from 'lru-cache';
import { Repository } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { ReadCache } from '../platform/database/read-cache.js';
import { Problem } from '../platform/errors/problem.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import { ApiKey, type KeyRole } from './api-key.entity.js';
import { hashKey } from './api-keys.service.js';
import { Workspace } from './workspace.entity.js';

/** Identifies a key in a log. */
export type KnownKey = Pick<ApiKey, 'id' | 'prefix' | 'workspaceId'>;

/** The caller of a request. */
export type Principal =
  | { kind: 'admin' }
  | {
      kind: 'workspace';
      workspaceId: string;
      role: KeyRole;
      keyId: string;
      keyPrefix: string;
      expiresAt: Date | null;
      /** The default country of the workspace. */
      defaultCountry: string | null;
    };

/** Whom the use of the API counts for: the workspace of the key, or `admin`. */
export function ownerOf(caller: Principal): string {
  return caller.kind === 'admin' ? 'admin' : caller.workspaceId;
}

export class AuthenticationRequired extends Problem {
  constructor(detail = 'Send your API key as "Authorization: Bearer KEY" or "X-Api-Key: KEY".') {
    super(401, 'auth.required', detail);
  }
}

export class InvalidKey extends Problem {
  /** @param key an existing key that has expired, or that may not be used from the caller's address */
  constructor(
    detail = 'This API key is unknown, has expired, or was deleted. Use another key, or ask an owner for a new key.',
    readonly key?: KnownKey,
  ) {
    super(401, 'auth.invalid_key', detail);
  }
}

/** A key from the database, with the check of its allowed addresses. */
interface FoundKey {
  key: ApiKey;
  defaultCountry: string | null;
  isAllowed: (ip: string) => boolean;
}

/** Of so many keys the process knows whose they are. */
const maxKnown = 50_000;

/** Finds the principal of an API key. */
@Injectable()
export class AuthenticationService implements OnModuleDestroy {
  private readonly cache: ReadCache<FoundKey>;
  private readonly adminHash: Buffer;
  /** Whose the keys were that worked, by hash. */
  private readonly owners = new LRUCache<string, string>({ max: maxKnown });

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

  /** Starts listening for changes of keys. Without this call, listening starts with the first key. */
  listen(): void {
    this.cache.start();
  }

  /** Calls the listener with the id of each key that any process has deleted or changed. Null means that every key may have changed. */
  onChange(listener: (keyId: string | null) => void): void {
    this.cache.onChange(listener);
  }

  /**
   * @param hash the hash of the key that the caller sent; undefined if the caller sent no key
   * @param ip the caller's address
   * @throws AuthenticationRequired, InvalidKey
   */
  async authenticate(hash: Buffer | undefined, ip: string): Promise<Principal> {
    if (!hash) throw new AuthenticationRequired();
    if (this.isAdmin(hash)) return { kind: 'admin' };
    const id64 = hash.toString('base64');
    const found = await this.cache.get(id64, () => this.find(hash));
    if (!found) throw new InvalidKey();
    const { id, workspaceId, role, prefix, expiresAt } = found.key;
    if (expiresAt && expiresAt.getTime() <= Date.now()) throw new InvalidKey(undefined, found.key);
    if (!found.isAllowed(ip))
      throw new InvalidKey(
        `This API key may not be used from ${ip}. Call from an address in its allowedIps, or use another key.`,
        found.key,
      );
    const { defaultCountry } = found;
    this.owners.set(id64, workspaceId);
    return { kind: 'workspace', workspaceId, role, keyId: id, keyPrefix: prefix, expiresAt, defaultCountry };
  }

  /** Whether this is the hash of the admin key. */
  isAdmin(hash: Buffer): boolean {
    return timingSafeEqual(hash, this.adminHash);
  }

  /**
   * Whom the key with this hash has worked for, as a hint before it is checked. Undefined: it has not worked in this process.
   */
  knownOwner(hash: Buffer): string | undefined {
    return this.isAdmin(hash) ? 'admin' : this.owners.get(hash.toString('base64'));
  }

  private async find(hash: Buffer): Promise<FoundKey | null> {
    const key = await this.keys.findOneBy({ keyHash: hash });
    if (!key) return null;
    if (!key.lastUsedAt || Date.now() - key.lastUsedAt.getTime() > 60_000) {
      await this.keys.update({ id: key.id }, { lastUsedAt: new Date() });
    }
    const workspace = await this.keys.manager.findOneBy(Workspace, { id: key.workspaceId });
    return { key, defaultCountry: workspace?.defaultCountry ?? null, isAllowed: allows(key.allowedIps) };
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
    const family = isIP(address);
    // A trusted proxy may forward what is no address, such as `unknown`.
    return family !== 0 && list.check(address, family === 6 ? 'ipv6' : 'ipv4');
  };
}
