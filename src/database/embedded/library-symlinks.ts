// The libraries of npm's Postgres have several names each. Links are not packed, so an install script makes them; npm runs such a
// script only where it is allowed, and `--ignore-scripts` is common. What it would have linked is linked here, at the first start.
import { readFile, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'

/** `folder`: of the package with the binaries. Where nothing can be written, Postgres says itself what it misses. */
export const linkLibraries = async (folder: string): Promise<void> => {
  const list = await readFile(join(folder, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[])
    await symlink(relative(dirname(target), source), join(folder, target)).catch(() => {})
}
