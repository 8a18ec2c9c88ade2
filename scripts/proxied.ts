// What the server answers while `npm run dev` runs: Vite passes these paths on and serves all others itself, as the page.

/** The first segment of each path that belongs to the server. test/ops/scripts.test.ts compares the list with the server's routes. */
export const proxied = ['api', 'asyncapi.json', 'client', 'docs', 'healthz', 'metrics', 'openapi.json', 'readyz']

/** Matches the address of a request that belongs to the server. */
export const proxiedPattern = `^/(${proxied.map((name) => name.replace('.', '\\.')).join('|')})([/?]|$)`
