#!/usr/bin/env node
// The command of the package: `npx mission-deck`. Without a command it starts the server, like `mission-deck serve`.
// An installed server keeps its data in the folder where it is started (DATA_DIR), never beside its code.

const [first] = process.argv.slice(2)
const asks = ['-h', '--help', '-V', '--version']
if (first === undefined || (first.startsWith('-') && !asks.includes(first))) process.argv.splice(2, 0, 'serve')
await import('./index.ts')
