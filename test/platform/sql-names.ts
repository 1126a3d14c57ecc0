/** Finds which tables, views and functions of the database the SQL of a TypeScript file names. */
import ts from 'typescript';

/** The names in a piece of SQL. */
export interface NamesInSql {
  /** Names at the place of a table: tables and views. */
  tables: Set<string>;
  /** Names before a bracket: functions, also those of PostgreSQL, and words such as `in (`. */
  functions: Set<string>;
}

export interface NamesInFile extends NamesInSql {
  /** Classes that may be passed to TypeORM: every class that is an argument, and the class of every Repository. */
  classes: Set<string>;
  /** Tables in query builders: the text of each `from('…')` and of similar calls. */
  builderTables: Set<string>;
  /** The entity classes that the file declares, and their tables. */
  declared: Map<string, string>;
  /** The expressions in `${…}` at the place of a table. */
  unreadable: Set<string>;
}

/** The placeholder for `${…}` in a template, with its number: an identifier that no SQL contains. */
const hole = '§';

export function namesInFile(path: string, text: string): NamesInFile {
  const names: NamesInFile = {
    tables: new Set(),
    functions: new Set(),
    classes: new Set(),
    builderTables: new Set(),
    declared: new Map(),
    unreadable: new Set(),
  };
  const visit = (node: ts.Node): void => {
    const values: ts.Expression[] = [];
    const literal = textOf(node, values);
    if (literal !== null) {
      const found = namesInSql(literal);
      for (const table of found.tables) {
        if (table.startsWith(hole)) names.unreadable.add(values[Number(table.slice(1))]!.getText());
        else names.tables.add(table);
      }
      found.functions.forEach((name) => names.functions.add(name));
      // A literal inside `${…}` is a separate text.
      values.forEach(visit);
      return;
    }
    if (ts.isImportDeclaration(node)) return;
    if (ts.isClassDeclaration(node) && node.name) {
      const table = entityTable(node);
      if (table !== null) names.declared.set(node.name.text, table);
    }
    for (const name of classesGiven(node)) names.classes.add(name);
    const builderTable = builderTableOf(node);
    if (builderTable !== null) names.builderTables.add(builderTable);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true));
  return names;
}

/**
 * The text of a string, a template or a sum of them, with a {@link hole} for each value, which is added to `values`; null for
 * another node.
 */
function textOf(node: ts.Node, values: ts.Expression[]): string | null {
  const holeFor = (value: ts.Expression) => `${hole}${values.push(value) - 1}`;
  if (ts.isStringLiteralLike(node)) return node.text;
  if (ts.isTemplateExpression(node)) {
    const rest = node.templateSpans.map(({ expression, literal }) => `${holeFor(expression)}${literal.text}`);
    return node.head.text + rest.join('');
  }
  if (!ts.isBinaryExpression(node) || node.operatorToken.kind !== ts.SyntaxKind.PlusToken) return null;
  const [left, right] = [node.left, node.right].map((side) => textOf(side, values) ?? holeFor(side));
  const isSum = [node.left, node.right].some((side) => !values.includes(side));
  return isSum ? `${left}${right}` : null;
}

/** The classes that a node passes to TypeORM: `Repository<Message>`, `InjectRepository(Message)`, `manager.insert(Message, …)`. */
function classesGiven(node: ts.Node): string[] {
  if (ts.isTypeReferenceNode(node) && node.typeName.getText() === 'Repository')
    return (node.typeArguments ?? []).map((argument) => argument.getText());
  if (ts.isCallExpression(node)) return node.arguments.filter(ts.isIdentifier).map(({ text }) => text);
  return [];
}

const builderMethods = /^(from|into|update|(left|inner)Join(AndSelect)?)$/;

/** The table of `builder.from('messages')`; null for another node. */
function builderTableOf(node: ts.Node): string | null {
  if (!ts.isCallExpression(node) || !ts.isPropertyAccessExpression(node.expression)) return null;
  const [first] = node.arguments;
  const isTable = builderMethods.test(node.expression.name.text) && first && ts.isStringLiteral(first);
  return isTable ? first.text : null;
}

/** The table of `@Entity('table')`; null for another class. */
function entityTable(node: ts.ClassDeclaration): string | null {
  for (const { expression } of ts.getDecorators(node) ?? []) {
    if (!ts.isCallExpression(expression) || expression.expression.getText() !== 'Entity') continue;
    const [table] = expression.arguments;
    if (table && ts.isStringLiteral(table)) return table.text;
    throw new Error(`${node.name?.text}: @Entity has the name of its table as its argument`);
  }
  return null;
}

const tokens = /'(?:[^']|'')*'|--[^\n]*|\/\*[^]*?\*\/|"[^"]+"|[A-Za-z_§][\w$§]*|::|[(),.;]|[^\s]/g;

/** The words that end a `from` list. */
const afterFrom = new Set(
  'where group order having limit offset window union intersect except returning for set fetch values select do ) ;'.split(
    ' ',
  ),
);
/** Functions with `from` in their arguments, such as `extract(epoch from x)`. */
const functionsWithFrom = new Set(['extract', 'substring', 'trim', 'overlay', 'position']);

/** The tables and functions that a piece of SQL names; a text that is not SQL has none. */
export function namesInSql(text: string): NamesInSql {
  const tables = new Set<string>();
  const functions = new Set<string>();
  if (!isSql(text)) return { tables, functions };
  const words = [...text.matchAll(tokens)]
    .map(([word]) => (word.startsWith('"') ? word.slice(1, -1) : word.toLowerCase()))
    .filter((word) => !word.startsWith('--') && !word.startsWith('/*'));
  const names = namesOfWith(words);
  const isName = (word: string | undefined): word is string => /^[a-z_§]/.test(word ?? '');

  /** Records the table at a place where a table may stand. Skips queries in brackets, functions, and names of `with`. */
  const note = (at: number): void => {
    let place = at;
    while (['only', 'lateral', 'table'].includes(words[place]!)) place += 1;
    if (words[place + 1] === '.') place += 2;
    const word = words[place];
    if (!isName(word) || names.has(word)) return;
    // After "lateral" comes a query, never a table. The text of that query is read at its own place.
    if (word.startsWith(hole) && words[place - 1] === 'lateral') return;
    if (words[place + 1] === '(' && !isColumnList(place)) return;
    if (word === 'rows' && words[place + 1] === 'from') return;
    tables.add(word);
  };
  /** `insert into messages (id, …)`: the names in brackets are columns. */
  const isColumnList = (place: number): boolean =>
    words[place - 1] === 'into' || words[place - 1] === 'references';

  const opened: (string | undefined)[] = [];
  words.forEach((word, at) => {
    const before = words[at - 1];
    const next = words[at + 1];
    if (word === '(') opened.push(before);
    else if (word === ')') opened.pop();
    else if (word === 'from') {
      if (before === 'distinct' || before === 'rows' || functionsWithFrom.has(opened.at(-1) ?? '')) return;
      noteList(at + 1);
    } else if (word === 'using' && before !== 'collate') noteList(at + 1);
    else if (word === 'join' || word === 'into' || word === 'references' || word === 'truncate') note(at + 1);
    else if (word === 'lock' && next === 'table') note(at + 1);
    else if (word === 'update' && !['for', 'key', 'do'].includes(before!)) note(at + 1);
    else if (isName(word) && next === '(' && before !== 'into' && !names.has(word)) functions.add(word);
  });
  return { tables, functions };

  /** `from a, b x, (select …) y join c on …, d`: the first table, and each table after a comma. `join` is handled separately. */
  function noteList(start: number): void {
    note(start);
    let depth = 0;
    for (let at = start; at < words.length; at += 1) {
      const word = words[at]!;
      if (depth === 0 && afterFrom.has(word)) return;
      if (word === '(') depth += 1;
      else if (word === ')') depth -= 1;
      else if (word === ',' && depth === 0) note(at + 1);
    }
  }
}

/** The words that begin a statement, and the bracket before a statement. */
const statementWords = new Set(['select', 'insert', 'update', 'delete', 'values', 'with', '(']);

/** Names given by `with a as (…), b (x) as materialized (…)`: `as (` or `as materialized (` follows them, and a statement. */
function namesOfWith(words: string[]): Set<string> {
  const names = new Set<string>();
  words.forEach((word, at) => {
    if (word !== 'as') return;
    let open = at + 1;
    if (words[open] === 'not') open += 1;
    if (words[open] === 'materialized') open += 1;
    if (words[open] !== '(') return;
    const first = words[open + 1] ?? '';
    if (!first.startsWith(hole) && !statementWords.has(first)) return;
    let name = at - 1;
    if (words[name] === ')') while (words[name + 1] !== '(' && name > 0) name -= 1;
    names.add(words[name]!);
  });
  return names;
}

/** Recognises SQL among other texts: a word of a statement, with the word that goes with it. */
const signs = [
  /(^|[\s(])select\s[^]*\bfrom\b/i,
  /(^|[\s(])select\s+[\w§"'(*$@]/i,
  /\binsert\s+into\s/i,
  /\bdelete\s+from\s/i,
  /\bupdate\s+(only\s+)?["\w.§]+(\s+(as\s+)?\w+)?\s+set\s/i,
  /\bfrom\s+["\w§]+(\s+(as\s+)?\w+)?\s+(where|join|(cross|left) join|(order|group) by)\b/i,
  /\bjoin\s+["\w§]+(\s+(as\s+)?\w+)?\s+(on|using)\b/i,
  /\b(lock\s+table|truncate)\s/i,
];

function isSql(text: string): boolean {
  return signs.some((sign) => sign.test(text));
}
