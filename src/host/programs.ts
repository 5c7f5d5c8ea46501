// SPDX-License-Identifier: GPL-2.0-or-later
import { constants } from 'node:fs'
import { access, stat } from 'node:fs/promises'
import { delimiter, join } from 'node:path'

/** Those of the programs that are in none of PATH's folders. */
export async function missingPrograms(names: readonly string[]): Promise<string[]> {
  const missing = await Promise.all(names.map(async (name) => ((await findProgram(name)) ? [] : [name])))
  return missing.flat()
}

/** The first executable file of that name in PATH. */
export async function findProgram(name: string): Promise<string | undefined> {
  for (const dir of (process.env.PATH ?? '').split(delimiter)) {
    const path = join(dir, name)
    if (dir && (await isExecutable(path))) return path
  }
  return undefined
}

async function isExecutable(path: string): Promise<boolean> {
  const isFile = (await stat(path).catch(() => undefined))?.isFile() ?? false
  return (
    isFile &&
    (await access(path, constants.X_OK).then(
      () => true,
      () => false,
    ))
  )
}
