import tseslint from 'typescript-eslint';

/** The checked parts that let no `any` through: a value from outside gets its type where it comes in. */
const withoutAny = [
  'src/**',
  'demo/**',
  'bench/**',
  'setup/**',
  'clients/**',
  '*.{ts,js}',
  'test/architecture.cjs',
];

export default tseslint.config(
  {
    ignores: [
      'dist/**',
      'node_modules/**',
      'var/**',
      'clients/typescript/dist/**',
      'clients/typescript/src/schema.ts',
    ],
  },
  ...tseslint.configs.recommended,
  {
    files: ['**/*.{ts,js,mjs,cjs}'],
    languageOptions: {
      parserOptions: {
        project: ['./tsconfig.test.json', './src/sandbox/page/tsconfig.json'],
        tsconfigRootDir: import.meta.dirname,
      },
    },
    rules: {
      // They lose the classes of nested fields in the bundled program, which has a class-transformer of its own: use a common base class.
      'no-restricted-imports': [
        'error',
        {
          name: '@nestjs/swagger',
          importNames: ['PickType', 'OmitType', 'PartialType', 'IntersectionType'],
        },
      ],
      // A promise without a handler hides its error: write `void` where that is intended.
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/no-misused-promises': 'error',
      '@typescript-eslint/await-thenable': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'no-console': 'error',
      eqeqeq: ['error', 'always', { null: 'ignore' }],
    },
  },
  {
    files: ['src/sandbox/page/**/*.ts'],
    rules: {
      // A page has no logger: its console is the only place for its errors.
      'no-console': 'off',
      // `import { type A }` stays an import of nothing, and the server serves no file for a type.
      '@typescript-eslint/no-import-type-side-effects': 'error',
    },
  },
  {
    files: withoutAny,
    rules: {
      '@typescript-eslint/no-unsafe-argument': 'error',
      '@typescript-eslint/no-unsafe-assignment': 'error',
      '@typescript-eslint/no-unsafe-call': 'error',
      '@typescript-eslint/no-unsafe-member-access': 'error',
      '@typescript-eslint/no-unsafe-return': 'error',
    },
  },
);
