import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * The user and password of an account's proxy, encrypted. The key is not in the database, so this migration cannot encrypt what
 * `proxy_url` of older rows has: the scheduler does (AccountProxiesTask), and both forms are read.
 */
export class ProxyCredentials1796342400005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      alter table accounts add column proxy_credentials bytea;
      ${notifyInstances('or old.proxy_credentials is distinct from new.proxy_credentials')}
    `);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`
      ${notifyInstances('')}
      alter table accounts drop column proxy_credentials;
    `);
  }
}

/** Tells an instance that an account which it owns, or owned, has changed. @param condition one more reason to tell it */
function notifyInstances(condition: string): string {
  return `create or replace function notify_instances() returns trigger language plpgsql as $$
      begin
        if new.instance_id is not null and (old.instance_id is distinct from new.instance_id
            or old.desired_state <> new.desired_state or old.epoch <> new.epoch
            or (old.held_by is distinct from new.held_by and new.held_by is null)
            or old.proxy_url is distinct from new.proxy_url ${condition}
            or old.link_method <> new.link_method or old.link_phone_number is distinct from new.link_phone_number
            or (old.status <> new.status and new.status = 'starting' and new.held_by is null)) then
          perform notify_instance(new.instance_id);
        end if;
        if old.instance_id is not null and old.instance_id is distinct from new.instance_id then
          perform notify_instance(old.instance_id);
        end if;
        return null;
      end $$;`;
}
