// The paths of the server while `npm run dev` runs: Vite forwards them, and serves the page under all other paths.

/** The first segment of each path that belongs to the server. test/ops/scripts.test.ts compares the list with the server's routes. */
export const proxied = [
  '.well-known',
  'api',
  'asyncapi.json',
  'auth',
  'client',
  'docs',
  'healthz',
  'mcp',
  'metrics',
  'openapi.json',
  'readyz',
]

/** Matches the URL of a request that belongs to the server. */
export const proxiedPattern = `^/(${proxied.map((name) => name.replace('.', '\\.')).join('|')})([/?]|$)`
