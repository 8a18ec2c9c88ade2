import js from '@eslint/js'
import tseslint from 'typescript-eslint'

export default tseslint.config(
  // (Socket.IO is installed only under bench/.)
  { ignores: ['**/dist', '.tap', '.data', 'eslint.config.js', 'bench/peers/socketio.ts'] },
  js.configs.recommended,
  ...tseslint.configs.recommendedTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/prefer-promise-reject-errors': 'off',
      '@typescript-eslint/restrict-template-expressions': 'off',
      // Objects are made by factories and use no `this`, so methods can be passed unbound.
      '@typescript-eslint/unbound-method': 'off',
      'no-empty': ['error', { allowEmptyCatch: true }],
    },
  },
  // Examples and scripts in plain JavaScript: the types of their imports exist only after a build.
  {
    files: ['examples/**', 'scripts/*.js', 'test/*.js', 'test/reports/**'],
    ...tseslint.configs.disableTypeChecked,
    languageOptions: { parserOptions: { projectService: false, project: false } },
  },
  { files: ['examples/**', 'scripts/*.js', 'test/*.js', 'test/reports/**'], rules: { 'no-undef': 'off' } },
  // Route handlers are async, so that a thrown error becomes their response.
  { files: ['src/http/**'], rules: { '@typescript-eslint/require-await': 'off' } },
)
