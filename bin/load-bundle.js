// SPDX-License-Identifier: GPL-2.0-or-later
import { accessSync, constants, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { Script } from 'node:vm'

/**
 * Evaluates dist/vblk.cjs and returns the program in it. What V8 compiled in earlier runs of the same bundle by the same
 * Node is reused: it lies beside the bundle, so whoever could plant something there could change the bundle as well.
 *
 * V8 compiles a function when it is first called, so what is kept grows with each command that is run for the first time.
 */
export function loadBundle(root) {
  const file = join(root, 'dist/vblk.cjs')
  // ASCII throughout (script/bundle.ts), and read in half the time as this.
  const source = readFileSync(file, 'latin1')
  // V8 itself tells sources apart by their length only. The first line is the hash of the rest.
  const id = /^\/\/ ([0-9a-f]{16})\n/.exec(source)?.[1]
  const cacheFile = join(root, 'dist/code-cache', `${id}-${process.version}-${process.arch}`)
  const listFile = `${cacheFile}.commands`
  const cachedData = readIfThere(cacheFile)
  const script = new Script(source, { filename: file, ...(cachedData && { cachedData }) })
  const isKept = cachedData !== undefined && !script.cachedDataRejected
  const commands = isKept ? (readIfThere(listFile)?.toString().split('\n') ?? []) : []
  const onCommand = (command) => {
    if (commands.includes(command) || !isWritable(join(root, 'dist'))) return
    // At the end, when all that the command needs has been compiled; one that fails may have needed less.
    process.once('exit', (code) => {
      if (code !== 0 && isKept) return
      save(cacheFile, script.createCachedData())
      save(listFile, (code === 0 ? [...commands, command] : commands).join('\n'))
    })
  }
  const module = { exports: {} }
  script.runInThisContext()(module.exports, createRequire(file), module, file, dirname(file))
  const { run } = module.exports
  return { run: (packageRoot, help) => run(packageRoot, help, onCommand) }
}

function readIfThere(file) {
  try {
    return readFileSync(file)
  } catch {
    return undefined
  }
}

/** Only who may write to the package can save; for everybody else the bundle is compiled again. */
function isWritable(dir) {
  try {
    accessSync(dir, constants.W_OK)
    return true
  } catch {
    return false
  }
}

function save(file, data) {
  const unfinished = `${file}.${process.pid}`
  try {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(unfinished, data, { mode: 0o644 })
    renameSync(unfinished, file)
  } catch {
    rmSync(unfinished, { force: true })
  }
}
