import js from '@eslint/js'
import tseslint from 'typescript-eslint'

export default tseslint.config(
  // (Socket.IO is installed with bench/, not with the project.)
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
      // Parts are factories over closures: nothing to unbind.
      '@typescript-eslint/unbound-method': 'off',
      'no-empty': ['error', { allowEmptyCatch: true }],
    },
  },
  // Read by people, run by a test; what they import has types once it is built.
  {
    files: ['examples/**', 'scripts/*.js', 'test/*.js', 'test/reports/**'],
    ...tseslint.configs.disableTypeChecked,
    languageOptions: { parserOptions: { projectService: false, project: false } },
  },
  { files: ['examples/**', 'scripts/*.js', 'test/*.js', 'test/reports/**'], rules: { 'no-undef': 'off' } },
  // A route handler is async so that what it throws becomes its answer.
  { files: ['src/http/**'], rules: { '@typescript-eslint/require-await': 'off' } },
)
