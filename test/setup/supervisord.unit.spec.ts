import { execFileSync } from 'node:child_process';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PROGRAMS, PROJECT, readSettings } from '../../setup/settings.mjs';
import {
  parseResponse,
  render,
  renderPrograms,
  renderSupervisord,
  supervisordPaths,
} from '../../setup/supervisord.mjs';
import { loadConfig } from '../../src/platform/config/config.js';

const options = {
  project: '/srv/flotilla',
  user: 'flotilla',
  home: '/home/flotilla',
  logDir: '/srv/flotilla/var/log',
  instances: 3,
  workers: 2,
  autostart: true,
};

/** The settings of one [program:flotilla-…]. */
function program(config: string, name: string): Record<string, string> {
  const [, body = ''] = config.split(`[program:flotilla-${name}]`);
  const lines = (body.split(/^\[/m)[0] ?? '').split('\n').filter((line) => /^\w+=/.test(line));
  return Object.fromEntries(
    lines.map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]),
  );
}

describe('the programs for supervisord', () => {
  const config = renderPrograms(options);

  it.each(['api', 'worker', 'scheduler', 'instance', 'sandbox'])(
    '%s runs node itself and always comes back',
    (name) => {
      expect(program(config, name)).toMatchObject({
        command: expect.stringMatching(
          new RegExp(`^"${process.execPath}" (--max-old-space-size=\\d+ )?dist/programs/${name}\\.mjs$`),
        ),
        directory: '/srv/flotilla',
        user: 'flotilla',
        autostart: 'true',
        autorestart: 'true',
        startsecs: '1',
        stopsignal: 'TERM',
        killasgroup: 'true',
        redirect_stderr: 'true',
      });
    },
  );

  it('number workers and instances', () => {
    expect(program(config, 'worker')).toMatchObject({
      process_name: 'worker_%(process_num)02d',
      numprocs: '2',
      stopwaitsecs: '40',
    });
    expect(program(config, 'instance')).toMatchObject({ numprocs: '3', stopwaitsecs: '80' });
    expect(program(config, 'instance')['environment']).toContain('INSTANCE_NUMBER="%(process_num)d"');
  });

  it('leave out what is not wanted here', () => {
    const some = renderPrograms({ ...options, workers: 0, programs: ['instance', 'worker'] });
    expect(some).toContain('programs=flotilla-instance\n');
    expect(some.match(/^\[program:.*\]$/gm)).toEqual(['[program:flotilla-instance]']);
  });

  it('hold no secret', () => {
    const settings = readSettings({
      environment: { ENV_FILE: 'none', VAR_DIR: '/x', EMBEDDED_PASSWORD: 'hush', ADMIN_API_KEY: 'hush' },
    });
    const data = {
      POSTGRES: '/p',
      POSTGRES_DATA: '/d',
      POSTGRES_PORT: 1,
      POSTGRES_USER: 'u',
      REDIS: '/r',
      REDIS_DIR: '/e',
    };
    const whole = renderSupervisord(settings, {
      data,
      dataPrograms: ['postgres', 'redis'],
      programsUser: { user: 'flotilla', home: '/srv/flotilla/var/home' },
    });
    expect(whole).not.toContain('hush');
    expect(whole).not.toContain('{{');
    expect(whole.match(/^\[group:.*\]$/gm)).toEqual(['[group:flotilla-data]', '[group:flotilla]']);
  });

  it('are printed by the command for the system’s supervisord', () => {
    const command = [
      join(PROJECT, 'setup/supervisord.mjs'),
      '--instances',
      '9',
      '--only',
      'api,instance',
      '--log-dir',
      '/var/log/flotilla',
    ];
    const text = execFileSync(process.execPath, command, { encoding: 'utf8' });
    expect(program(text, 'instance')).toMatchObject({ numprocs: '9', user: userInfo().username });
    expect(text).toContain('stdout_logfile=/var/log/flotilla/api.log');
    expect(text).not.toContain('[program:flotilla-worker]');
  });

  it('name what there is when a program is named that is not', () => {
    const print = (args: string[], environment: Record<string, string>) =>
      execFileSync(process.execPath, [join(PROJECT, 'setup/supervisord.mjs'), ...args], {
        encoding: 'utf8',
        stdio: 'pipe',
        env: { ...process.env, ...environment },
      });
    const all = PROGRAMS.join(', ');
    expect(() => print([], { PROGRAMS: 'instances' })).toThrow(
      `PROGRAMS names "instances": there is ${all}.`,
    );
    expect(() => print(['--only', 'instance,web'], {})).toThrow(`--only names "web": there is ${all}.`);
  });

  it('refuse paths that supervisord would misread', () => {
    expect(() => render('{{PROJECT}}', { PROJECT: '/a/100%' })).toThrow('move the project');
  });
});

/** The configuration that is printed for production, with settings from the environment alone. */
function printed(environment: Record<string, string>, ...args: string[]): string {
  return execFileSync(process.execPath, [join(PROJECT, 'setup/supervisord.mjs'), ...args], {
    encoding: 'utf8',
    env: {
      PATH: process.env['PATH'],
      ENV_FILE: 'none',
      VAR_DIR: '/srv/flotilla/var',
      SANDBOX: 'true',
      ...environment,
    },
  });
}

/** What supervisord makes of `numprocs`: the names, environments and logs of the processes of a program. */
function processes(config: string, name: string) {
  const settings = program(config, name);
  return Array.from({ length: Number(settings['numprocs'] ?? 1) }, (_process, number) => {
    const expand = (text = '') =>
      text.replace(/%\(process_num\)(02)?d/g, (_match, padded?: string) =>
        String(number).padStart(padded ? 2 : 1, '0'),
      );
    return {
      name: expand(settings['process_name']),
      environment: Object.fromEntries(
        [...expand(settings['environment']).matchAll(/(\w+)="([^"]*)"/g)].map(([, key, value]) => [
          key,
          value,
        ]),
      ) as Record<string, string>,
      log: expand(settings['stdout_logfile']),
    };
  });
}

describe.each([1, 4])('the production configuration for %i instances', (count) => {
  const config = printed({ INSTANCES: String(count), INSTANCE_BASE_PORT: '4001' });
  const configOf = (environment: Record<string, string>) =>
    loadConfig({
      ENV_FILE: 'none',
      VAR_DIR: '/srv/flotilla/var',
      SERVER_ID: 'server-1',
      INSTANCES: String(count),
      INSTANCE_BASE_PORT: '4001',
      ADMIN_API_KEY: 'k'.repeat(32),
      INTERNAL_API_KEY: 'k'.repeat(32),
      APP_KEY: 'k'.repeat(32),
      ...environment,
    });

  it('gives each instance a name, an id, a port and a log of its own', () => {
    const instances = processes(config, 'instance');
    const numbers = Array.from({ length: count }, (_instance, number) => number);
    expect(instances.map(({ name }) => name)).toEqual(numbers.map((number) => `instance_0${number}`));
    expect(instances.map(({ log }) => log)).toEqual(
      numbers.map((number) => `/srv/flotilla/var/log/instance_0${number}.log`),
    );
    const settings = instances.map(({ environment }) => configOf(environment).instance);
    expect(settings.map(({ id }) => id)).toEqual(numbers.map((number) => `server-1.instance_0${number}`));
    expect(settings.map(({ port }) => port)).toEqual(numbers.map((number) => 4001 + number));
  });

  it('waits longer for a stop than the programs need', () => {
    const stopMs = (name: string) => Number(program(config, name)['stopwaitsecs']) * 1000;
    const { instance } = configOf({});
    // outcomes.service.ts: so long an instance may ask WhatsApp Web for an account, and a worker lets that finish.
    const outcomesMs = 30_000;
    expect(stopMs('worker')).toBeGreaterThan(outcomesMs);
    // whatsapp-session.ts: sends that run, the browser, its process group, a start that is under way.
    const sessionMs = 10_000 + 5_000 + 1_000 + 1_000;
    // session-snapshots.service.ts takes two at once; two of 34 MB cost two seconds of processor time.
    const snapshotsMs = (instance.maxAccounts / 2) * 2_000;
    expect(stopMs('instance')).toBeGreaterThan(sessionMs + snapshotsMs);
    // DefaultTimeoutStopSec of systemd, which stops supervisord with the machine.
    expect(stopMs('instance')).toBeLessThan(90_000);
  });

  it('rotates every log, brings everything back, and knows the order', () => {
    for (const name of PROGRAMS) {
      const settings = program(config, name);
      expect(settings, name).toMatchObject({
        redirect_stderr: 'true',
        stdout_logfile_maxbytes: '20MB',
        stdout_logfile_backups: '5',
        autorestart: 'true',
        startsecs: '1',
        startretries: '1000000',
        stopsignal: 'TERM',
        killasgroup: 'true',
      });
      expect(settings['stdout_logfile'], name).toMatch(/^\/srv\/flotilla\/var\/log\/\w/);
    }
    const byPriority = PROGRAMS.toSorted(
      (a, b) => Number(program(config, a)['priority']) - Number(program(config, b)['priority']),
    );
    expect(byPriority).toEqual(PROGRAMS);
  });

  it('runs what PROGRAMS says, and --only wins over it', () => {
    const sectionsOf = (text: string) => text.match(/^\[program:.*\]$/gm);
    expect(sectionsOf(config)).toHaveLength(PROGRAMS.length);
    expect(sectionsOf(printed({ SANDBOX: '' }))).not.toContain('[program:flotilla-sandbox]');
    const second = printed({ INSTANCES: String(count), PROGRAMS: 'instance' });
    expect(sectionsOf(second)).toEqual(['[program:flotilla-instance]']);
    expect(second).toContain('programs=flotilla-instance\n');
    expect(processes(second, 'instance')).toHaveLength(count);
    const only = printed({ PROGRAMS: 'instance' }, '--only', 'worker,api');
    expect(sectionsOf(only)).toEqual(['[program:flotilla-api]', '[program:flotilla-worker]']);
  });
});

describe('the socket of supervisord', () => {
  it('is in the var directory, or in a short place when that path is too long', () => {
    expect(supervisordPaths('/srv/flotilla/var').socket).toBe('/srv/flotilla/var/supervisor/supervisor.sock');
    const deep = supervisordPaths(`/srv/${'deep/'.repeat(20)}var`);
    expect(deep.socket.length).toBeLessThan(95);
    expect(deep.runDir).toContain('deep/deep');
  });
});

describe('answers of supervisord', () => {
  const answer = (value: string) =>
    `<?xml version='1.0'?>\n<methodResponse>\n<params>\n<param>\n${value}\n</param>\n</params>\n</methodResponse>\n`;

  it('are read', () => {
    const member = (name: string, value: string) =>
      `<member>\n<name>${name}</name>\n<value>${value}</value>\n</member>\n`;
    const struct = `<struct>\n${member('name', '<string>a &lt;b&gt; &amp; c</string>')}${member('pid', '<int>42</int>')}${member('spawnerr', '<string></string>')}</struct>`;
    expect(
      parseResponse(
        answer(
          `<value><array><data>\n<value>${struct}</value>\n<value><boolean>1</boolean></value>\n</data></array></value>`,
        ),
      ),
    ).toEqual([{ name: 'a <b> & c', pid: 42, spawnerr: '' }, true]);
    expect(parseResponse(answer('<value><array><data>\n</data></array></value>'))).toEqual([]);
  });

  it('that are faults become errors', () => {
    const fault =
      '<methodResponse>\n<fault>\n<value><struct>\n<member>\n<name>faultCode</name>\n<value><int>10</int></value>\n</member>\n<member>\n<name>faultString</name>\n<value><string>BAD_NAME: x</string></value>\n</member>\n</struct></value>\n</fault>\n</methodResponse>';
    expect(() => parseResponse(fault)).toThrow('supervisord: BAD_NAME: x');
  });
});
