#!/usr/bin/env node
// mission-deck: the command that the package is named by, `npx mission-deck`. Without a command it is the server, as `mission-deck serve`;
// with one it is deck. What an installed server keeps is in the folder where it is started (DATA_DIR), never beside its code.

const [first] = process.argv.slice(2)
const asks = ['-h', '--help', '-V', '--version']
if (first === undefined || (first.startsWith('-') && !asks.includes(first))) process.argv.splice(2, 0, 'serve')
await import('./index.ts')
