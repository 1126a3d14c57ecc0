import { Inject, Injectable } from '@nestjs/common';
import type { Response } from 'express';
import { LRUCache } from 'lru-cache';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { Problem } from '../platform/errors/problem.js';
import { networkOf, RateLimit, takeFromEach } from '../platform/http/rate-limit.js';
import { SharedCounts } from '../platform/limits/shared-counts.js';
import { hashKey } from './api-keys.service.js';
import type { Principal } from './authentication.service.js';
import { KnownKeys } from './known-keys.js';

/**
 * An operator may choose the admin key and the token of the metrics, so they may be guessable. With this many characters, as
 * `npm start` makes them, they count as unguessable.
 */
const unguessableLength = 32;
/** For this time after its last use, a shorter secret works from its address even while others guess from there. */
const trustedForMs = 3_600_000;
const trustedAtMost = 1_000;
const loginsPerMinute = 10;

/** Limits how often keys may be used and guessed. */
@Injectable()
export class RateLimits {
  private readonly perKey: RateLimit;
  private readonly perWorkspace: RateLimit;
  private readonly failures: RateLimit;
  private readonly logins: RateLimit;
  /** The hashes of the operator's secrets that are long, and of those that are short. */
  private readonly unguessable: ReadonlySet<string>;
  private readonly guessable: ReadonlySet<string>;
  /** Which short secrets were right from which address. */
  private readonly trusted = new LRUCache<string, true>({
    max: trustedAtMost,
    ttl: trustedForMs,
    // Looked up at each call, so that tests can move the clock.
    perf: { now: () => Date.now() },
  });

  constructor(
    @Inject(CONFIG) { http, adminApiKey, metricsToken = '' }: Config,
    counts: SharedCounts,
    private readonly known: KnownKeys,
  ) {
    this.perKey = new RateLimit(
      counts,
      'key',
      http.rateLimitPerKey,
      'This API key has made too many requests.',
    );
    this.perWorkspace = new RateLimit(
      counts,
      'workspace',
      http.rateLimitPerWorkspace,
      'The keys of this workspace have made too many requests.',
    );
    this.failures = new RateLimit(
      counts,
      'address',
      http.rateLimitPerAddress,
      'Your address has made too many requests without a key or with a wrong key.',
    );
    this.logins = new RateLimit(counts, 'login', loginsPerMinute, 'There were too many attempts to log in.');
    const secrets = [adminApiKey, metricsToken].filter(({ length }) => length > 0);
    const isLong = ({ length }: string) => length >= unguessableLength;
    this.unguessable = new Set(secrets.filter(isLong).map((secret) => idOf(hashKey(secret))));
    this.guessable = new Set(
      secrets.filter((secret) => !isLong(secret)).map((secret) => idOf(hashKey(secret))),
    );
  }

  /** Counts a request with a valid key, for the key and for its workspace. @throws RateLimitExceeded */
  count(principal: Principal, response: Response): void {
    if (principal.kind === 'admin') takeFromEach([[this.perKey, 'admin']], response);
    else
      takeFromEach(
        [
          [this.perWorkspace, principal.workspaceId],
          [this.perKey, principal.keyId],
        ],
        response,
      );
  }

  /** Counts an attempt to log in with a browser. @throws RateLimitExceeded */
  countLogin(ip: string, response: Response): void {
    this.logins.take(networkOf(ip), response);
  }

  /**
   * Checks a key, and limits the wrong keys of an address. An existing key still works when its address has reached the limit,
   * because strangers may share that address. Past the limit a guess costs no query.
   * @param hash the hash of the key; undefined if the caller sent no key
   * @param check throws a problem with status 401 if the key is wrong
   * @throws RateLimitExceeded, and the errors of `check`
   */
  async limitGuesses<Found>(
    ip: string,
    hash: Buffer | undefined,
    check: () => Found | Promise<Found>,
  ): Promise<Found> {
    const network = networkOf(ip);
    if (this.failures.isReached(network) && !(hash && (await this.isRight(hash, network))))
      throw this.failures.exceeded(network);
    try {
      const found = await check();
      // Set again with each use, so that a secret in use stays trusted.
      if (hash && this.guessable.has(idOf(hash))) this.trusted.set(pairOf(hash, network), true);
      return found;
    } catch (error) {
      const isWrong = error instanceof Problem && error.status === 401;
      if (isWrong && !this.failures.isReached(network)) this.failures.take(network);
      throw error;
    }
  }

  /** Whether this is the hash of a key or a secret that may be used although others guess from the same network. */
  private async isRight(hash: Buffer, network: string): Promise<boolean> {
    if (this.unguessable.has(idOf(hash)) || this.trusted.has(pairOf(hash, network))) return true;
    return this.known.has(hash);
  }
}

function idOf(hash: Buffer): string {
  return hash.toString('base64');
}

function pairOf(hash: Buffer, network: string): string {
  return `${network} ${idOf(hash)}`;
}
