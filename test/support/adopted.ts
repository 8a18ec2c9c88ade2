// A database of the previous version: at migration 022_scale, without missions.
import { readFile } from 'node:fs/promises'
import type pg from 'pg'

const dump = new URL('../fixtures/database-022.sql', import.meta.url)

/** Loads it into an empty database. */
export const loadDatabase022 = async (client: pg.ClientBase): Promise<void> => {
  // The dump defines functions before the tables that they read.
  await client.query('set check_function_bodies = off')
  await client.query(await readFile(dump, 'utf8'))
  await client.query('set check_function_bodies = default')
}
