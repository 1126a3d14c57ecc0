import { Inject, Injectable } from '@nestjs/common';
import { InjectRepository } from '@nestjs/typeorm';
import { Like, Repository } from 'typeorm';
import type { Config } from '../platform/config/config.js';
import { CONFIG } from '../platform/config/config.module.js';
import { decrypt, encrypt, encryptionKeys } from '../platform/encryption.js';
import type { Logger } from '../platform/logging/logger.js';
import { LOGGER } from '../platform/logging/logging.module.js';
import {
  credentialsInUrl,
  parseProxyUrl,
  type Proxy,
  withLogin,
  withoutCredentials,
} from '../platform/http/proxy-url.js';
import { Account } from './account.entity.js';

type ProxyColumns = Pick<Account, 'proxyUrl' | 'proxyCredentials'>;

/** How many rows of an older version one run reads. */
const batchSize = 500;

/** The proxies of accounts. The user and password of a proxy are encrypted with `APP_KEY`, each for its own row. */
@Injectable()
export class AccountProxies {
  /** The first key encrypts, all keys decrypt. */
  private readonly keys: Buffer[];
  private readonly allowPrivate: readonly string[];

  constructor(
    @Inject(CONFIG) config: Config,
    @Inject(LOGGER) private readonly logger: Logger,
    @InjectRepository(Account) private readonly accounts: Repository<Account>,
  ) {
    this.keys = encryptionKeys(config, 'account-proxies');
    this.allowPrivate = config.allowedPrivateAddresses;
  }

  /**
   * The columns of an account with this proxy.
   * @param url null for no proxy
   * @throws ValidationFailed; AddressNotPublic if the host is a literal private address
   */
  columns(accountId: string, url: string | null): ProxyColumns {
    if (url === null) return { proxyUrl: null, proxyCredentials: null };
    const proxy = parseProxyUrl(url, this.allowPrivate);
    return {
      proxyUrl: withoutCredentials(proxy),
      proxyCredentials:
        proxy.credentials &&
        encrypt(this.keys[0]!, Buffer.from(credentialsInUrl(proxy.credentials)), accountId),
    };
  }

  /**
   * The proxy of an account, with its user and password.
   * @throws DecryptionFailed if they were encrypted with another APP_KEY; ValidationFailed or AddressNotPublic if an older version, or
   * other settings, allowed the URL
   */
  open(account: Pick<Account, 'id'> & ProxyColumns): Proxy | null {
    const url = this.fullUrl(account);
    return url === null ? null : parseProxyUrl(url, this.allowPrivate);
  }

  /** Whether two states of an account have the same proxy. A rotation of APP_KEY does not change the proxy. */
  areSame(one: Pick<Account, 'id'> & ProxyColumns, other: Pick<Account, 'id'> & ProxyColumns): boolean {
    if (one.proxyUrl === other.proxyUrl && isEqual(one.proxyCredentials, other.proxyCredentials)) return true;
    try {
      return this.fullUrl(one) === this.fullUrl(other);
    } catch {
      // The next start of the session reports that the credentials cannot be decrypted.
      return false;
    }
  }

  /** Encrypts the users and passwords that an older version of Flotilla wrote in plain text. @returns how many rows have changed */
  async encryptOldRows(): Promise<number> {
    const rows = await this.accounts.find({ where: { proxyUrl: Like('%@%') }, take: batchSize });
    let changed = 0;
    for (const { id, proxyUrl } of rows) {
      const columns = this.columnsOfOldRow(id, proxyUrl!);
      // The owner may have changed the proxy meanwhile.
      const { affected } = await this.accounts.update({ id, proxyUrl: proxyUrl! }, columns);
      changed += affected ?? 0;
    }
    return changed;
  }

  /** A URL that no proxy can have any more loses its user and password, and stays visible. */
  private columnsOfOldRow(id: string, url: string): ProxyColumns {
    try {
      return this.columns(id, url);
    } catch (error) {
      this.logger.warn({ err: error, accountId: id }, 'the proxy of an account cannot be used');
      return { proxyUrl: url.replace(/:\/\/.*@/s, '://'), proxyCredentials: null };
    }
  }

  private fullUrl({ id, proxyUrl, proxyCredentials }: Pick<Account, 'id'> & ProxyColumns): string | null {
    if (proxyUrl === null || proxyCredentials === null) return proxyUrl;
    return withLogin(proxyUrl, decrypt(this.keys, proxyCredentials, id).toString());
  }
}

function isEqual(one: Buffer | null, other: Buffer | null): boolean {
  return one === null || other === null ? one === other : one.equals(other);
}
