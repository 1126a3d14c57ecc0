import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import architecture from '../architecture.cjs';
import { exceptions, mostExceptions, owners, placeholders } from '../sql-owners.js';
import { namesInFile, namesInSql } from './sql-names.js';

const project = join(import.meta.dirname, '../..');

/** The folders of src from left to right. Each has a rule in test/architecture.cjs. */
const line = (architecture.forbidden ?? []).flatMap(
  ({ name }) => /^(.*)-imports-only-leftwards$/.exec(name ?? '')?.[1] ?? [],
);
const folderOf = (file: string) => file.split('/')[0]!;
const placeOf = (folder: string | undefined) => line.indexOf(folder ?? '');
const ownerOf = new Map(
  Object.entries(owners).flatMap(([folder, tables]) => tables.map((table) => [table, folder] as const)),
);

/** The tables of docs/schema.sql, and the tables behind its views and functions. */
const schema = readFileSync(join(project, 'docs/schema.sql'), 'utf8')
  .split(/\n\n(?=create table |create view |CREATE OR REPLACE FUNCTION )/)
  .slice(1)
  .map((text) => {
    const [, kind, name] = /^(?:create|CREATE OR REPLACE) (table|view|FUNCTION) (?:public\.)?(\w+)/.exec(
      text,
    )!;
    return { kind: kind!.toLowerCase(), name: name!, text };
  });
const tables = new Set(schema.filter(({ kind }) => kind === 'table').map(({ name }) => name));
const views = textsOf('view');
const functions = textsOf('function');

function textsOf(wanted: string): Map<string, string> {
  const texts = new Map<string, string>();
  for (const { kind, name, text } of schema)
    if (kind === wanted) texts.set(name, `${texts.get(name) ?? ''}\n${text.replaceAll('public.', '')}`);
  return texts;
}

/** The tables that a piece of SQL uses, directly or through views and functions. */
function tablesBehind(names: ReturnType<typeof namesInSql>, seen = new Set<string>()): Set<string> {
  const found = new Set<string>();
  for (const name of names.tables) if (!views.has(name)) found.add(name);
  const hidden = [
    ...[...names.tables].flatMap((name) => [[name, views.get(name)] as const]),
    ...[...names.functions].flatMap((name) => [[name, functions.get(name)] as const]),
  ];
  for (const [name, text] of hidden) {
    if (text === undefined || seen.has(name)) continue;
    // The variables and records of a function look like tables.
    for (const table of tablesBehind(namesInSql(text), seen.add(name)))
      if (tables.has(table)) found.add(table);
  }
  return found;
}

const files = (readdirSync(join(project, 'src'), { recursive: true }) as string[])
  .filter((file) => file.endsWith('.ts'))
  .map((file) => ({ file, names: namesInFile(file, readFileSync(join(project, 'src', file), 'utf8')) }));
const entities = new Map(files.flatMap(({ names }) => [...names.declared]));

/** Which file touches which table. */
const touches = files.flatMap(({ file, names }) => {
  const given = [
    ...[...names.classes].flatMap((name) => entities.get(name) ?? []),
    ...[...names.builderTables].filter((name) => tables.has(name)),
  ];
  const behind = placeholders.filter((one) => one.file === file).flatMap((one) => one.tables);
  return [...new Set([...tablesBehind(names), ...given, ...behind])].map((table) => ({ file, table }));
});
const sign = ({ file, table }: { file: string; table: string }) => `${file}: ${table}`;

describe('tables have owners', () => {
  it('every table of docs/schema.sql has an owner: a folder of the line', () => {
    expect([...ownerOf.keys()].sort()).toEqual([...tables].sort());
    expect(Object.values(owners).flat()).toHaveLength(ownerOf.size);
    expect(Object.keys(owners).filter((folder) => placeOf(folder) === -1)).toEqual([]);
  });

  it('the SQL of src uses no other table', () => {
    expect(touches.filter(({ table }) => !ownerOf.has(table)).map(sign)).toEqual([]);
  });

  it('every table is found in the SQL of src, except the table of the migrations', () => {
    const touched = new Set(touches.map(({ table }) => table));
    expect([...tables].filter((table) => !touched.has(table))).toEqual(['migrations']);
  });

  it('an entity is in the folder of its table', () => {
    const declared = files.flatMap(({ file, names }) =>
      [...names.declared.values()].map((table) => ({ file, table })),
    );
    expect(declared.length).toBeGreaterThan(0);
    for (const { file, table } of declared)
      expect(folderOf(file), sign({ file, table })).toBe(ownerOf.get(table));
  });

  it('a folder uses its own tables and those to its left; exceptions are listed, and all of them are needed', () => {
    const toTheRight = touches.filter(
      ({ file, table }) => placeOf(ownerOf.get(table)) > placeOf(folderOf(file)),
    );
    expect(toTheRight.map(sign).sort()).toEqual(exceptions.map(sign).sort());
    expect(exceptions.length).toBeLessThanOrEqual(mostExceptions);
  });

  it('SQL with ${…} at the place of a table is listed, with tables that its file names', () => {
    const unreadable = files.flatMap(({ file, names }) =>
      [...names.unreadable].map((value) => `${file}: \${${value}}`),
    );
    const listed = placeholders.map(({ file, value }) => `${file}: \${${value}}`);
    expect(unreadable.sort()).toEqual(listed.sort());
    for (const { file, tables: possible } of placeholders) {
      const text = readFileSync(join(project, 'src', file), 'utf8');
      for (const table of possible) expect(text, file).toMatch(new RegExp(`\\b${table}\\b`));
    }
  });
});

describe('the finder', () => {
  const tablesIn = (sql: string) => [...namesInSql(sql).tables].sort();
  const inFile = (text: string) => namesInFile('x.ts', text);

  it.each([
    ['select a.id from accounts a join workspaces w on w.id = a.workspace_id', ['accounts', 'workspaces']],
    ['select 1 from accounts as a, messages m, lateral unnest($1) u', ['accounts', 'messages']],
    ['select (select count(*) from media), exists (select from messages)', ['media', 'messages']],
    [
      'insert into contacts (account_id) select id from accounts on conflict do nothing',
      ['accounts', 'contacts'],
    ],
    [
      'insert into events as e (id) values ($1) on conflict (id) do update set type = excluded.type',
      ['events'],
    ],
    ['update messages m set status = $1 from accounts a where a.id = m.account_id', ['accounts', 'messages']],
    ['delete from failed_jobs f using messages m where m.id = f.message_id', ['failed_jobs', 'messages']],
    ['select from only public."accounts" for no key update skip locked', ['accounts']],
    ['select id from accounts for update of accounts', ['accounts']],
    ['lock table messages in share mode', ['messages']],
    ['truncate messages', ['messages']],
    ['left join media there on true', ['media']],
    ['from events e where e.id = $1', ['events']],
  ])('finds the tables of %s', (sql, expected) => expect(tablesIn(sql)).toEqual(expected));

  it.each([
    [
      'with due as (select id from messages), b (x) as not materialized (select 1 from due) select from due, b',
      ['messages'],
    ],
    ['with gone as (delete from media returning id) select id from gone', ['media']],
    ['select id from jsonb_to_recordset($1) as told (id uuid)', []],
    ['select * from rows from (unnest($1), unnest($2)) as both', []],
    [
      'select extract(epoch from now()), trim(both from name), substring(name from 2) from accounts',
      ['accounts'],
    ],
    ['select from messages where status is distinct from sender', ['messages']],
    ["select 'from accounts' as text -- from media\n from messages /* from events */", ['messages']],
    ['select a.id from accounts a join servers using (id)', ['accounts', 'servers']],
    ['select id from messages order by id, created_at', ['messages']],
  ])('takes nothing else for a table: %s', (sql, expected) => expect(tablesIn(sql)).toEqual(expected));

  it.each([
    'The message was read from accounts and written into messages.',
    'Delete it, or update messages first.',
    'It was removed from the group. Ask for another.',
    'Select an account.',
  ])('reads no sentence as SQL: %s', (text) => expect(tablesIn(text)).toEqual([]));

  it('finds the functions that SQL calls', () => {
    expect([...namesInSql('select keep_media_blob($1, now()) as kept').functions]).toEqual([
      'keep_media_blob',
      'now',
    ]);
  });

  it('reads strings, templates, sums, and templates inside templates', () => {
    const { tables: found } = inFile(
      "run('select from accounts');\nrun(`select from (${list(`select from media`)}) m join events e on true`);\nrun('select id ' + 'from messages');",
    );
    expect([...found].sort()).toEqual(['accounts', 'events', 'media', 'messages']);
  });

  it('reports a table that only the running program knows; there is no table after lateral', () => {
    const unreadableIn = (text: string) => [...inFile(text).unreadable];
    expect(unreadableIn('run(`delete from ${table} where id = ${id}`)')).toEqual(['table']);
    expect(unreadableIn("run('delete from ' + table)")).toEqual(['table']);
    expect(unreadableIn('run(`select from a join ${tableOf(a)} t on true`)')).toEqual(['tableOf(a)']);
    expect(unreadableIn('run(`select from a cross join lateral ${head("a.id")} h`)')).toEqual([]);
  });

  it('finds entities, their tables, and the classes that are passed to TypeORM', () => {
    const { declared, classes, builderTables } = inFile(`
      import { Message } from './message.entity.js';
      @Entity('media') class Media {}
      class A { constructor(@InjectRepository(Server) private readonly servers: Repository<Server>) {} }
      manager.insert(Account, {}); builder.leftJoin('events', 'e');`);
    expect([...declared]).toEqual([['Media', 'media']]);
    expect([...classes].sort()).toEqual(['Account', 'Server']);
    expect([...builderTables]).toEqual(['events']);
  });
});
