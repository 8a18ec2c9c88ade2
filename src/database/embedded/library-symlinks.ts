// The libraries of npm's Postgres need symbolic links. npm packages contain no links, so an install script creates them. Many installations
// run no scripts (`--ignore-scripts`), so the links are created here, at the first start.
import { readFile, symlink } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'

/** `folder`: the package with the binaries. If the links can't be created, Postgres reports the missing library. */
export const linkLibraries = async (folder: string): Promise<void> => {
  const list = await readFile(join(folder, 'native', 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  for (const { source, target } of JSON.parse(list) as { source: string; target: string }[])
    await symlink(relative(dirname(target), source), join(folder, target)).catch(() => {})
}
