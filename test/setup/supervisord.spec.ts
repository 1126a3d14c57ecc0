import { execFileSync } from 'node:child_process';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { PROJECT, readSettings } from '../../setup/settings.mjs';
import {
  parseResponse,
  render,
  renderPrograms,
  renderSupervisord,
  supervisordPaths,
} from '../../setup/supervisord.mjs';

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
        command: `"${process.execPath}" --enable-source-maps dist/src/roles/${name}.main.js`,
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
    expect(program(config, 'instance')).toMatchObject({ numprocs: '3', stopwaitsecs: '40' });
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
    const whole = renderSupervisord(settings, { data, dataPrograms: ['postgres', 'redis'], programs: true });
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

  it('refuse paths that supervisord would misread', () => {
    expect(() => render('{{PROJECT}}', { PROJECT: '/a/100%' })).toThrow('move the project');
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
