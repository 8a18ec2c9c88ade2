// Ends this process when its parent process ends, also after a kill: node --import ./scripts/end-with-parent.js …, with an IPC channel.
// A server of `npm run dev` then never outlives it.
process.on('disconnect', () => process.kill(process.pid, 'SIGTERM'))
process.channel?.unref()
