// SPDX-License-Identifier: GPL-2.0-or-later
// Does the suite find anything? Each patch in test/kmod/planted puts a fault into a copy of the module, and says in its header
// which cases must then fail, or what they must leave behind. Controls: the same cases on the unpatched module, built the same way.
import { readdirSync, readFileSync } from 'node:fs'
import { cp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { execa } from 'execa'
import { Lab } from '../lab/lab.ts'
import { cache, top } from '../lab/setup/paths.ts'
import { runInRoot } from '../lab/setup/run.ts'
import { kernelRelease } from '../lab/setup/stages.ts'
import { imageDir, prepareRing } from './devices.ts'
import { held } from './leaks.ts'

const patchDir = join(import.meta.dirname, 'planted')

/** What a module that is gone again may not have given back. */
interface Left {
  /** Pages of the guest's. */
  pins: number
  /** 1: the file system of the images, which a file keeps from being unmounted. */
  mount: number
}

interface Fault {
  name: string
  patch: string
  /** The ring driver's cases that must find it. */
  cases: string[]
  /** What is not given back, if that and no case tells of it. */
  leaves: keyof Left | undefined
  /** It may corrupt the kernel's memory: what runs after it in the same machine proves nothing. */
  ruinous: boolean
}

const faults: Fault[] = readdirSync(patchDir)
  .filter((file) => file.endsWith('.patch'))
  .sort()
  .map((file) => {
    const patch = readFileSync(join(patchDir, file), 'utf8')
    const cases = /^Found-by: (.+)$/m.exec(patch)?.[1]?.split(' ')
    if (!cases) throw new Error(`${file} does not say what must find it (Found-by: CASE…)`)
    const leaves = /^Leaves: (pins|mount)$/m.exec(patch)?.[1] as Fault['leaves']
    return { name: file.replace(/\.patch$/, ''), patch, cases, leaves, ruinous: /^Ruinous: yes$/m.test(patch) }
  })

const workDir = join(cache, 'planted')
const source = join(workDir, 'kmod')
const build = join(workDir, 'build')

/** Builds what is in `source`; only what is newer than its object is compiled. */
async function make(): Promise<Buffer> {
  await runInRoot([
    'make',
    '-s',
    '-C',
    source,
    `KVER=${kernelRelease()}`,
    `O=${build}`,
    'CONFIG_DEBUG_INFO_BTF_MODULES=',
  ])
  return await readFile(join(build, 'vhost_blk.ko'))
}

const copy = async (from: string, to: string) => {
  await rm(to, { recursive: true, force: true })
  await cp(from, to, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true })
}

/** The unpatched module; its sources and objects are kept aside for the patched ones to start from. */
async function buildControl(): Promise<Buffer> {
  await rm(workDir, { recursive: true, force: true })
  await cp(join(top, 'kmod'), source, {
    recursive: true,
    preserveTimestamps: true,
    filter: (path) => path !== join(top, 'kmod/build'),
  })
  const module = await make()
  await copy(source, `${source}.clean`)
  await copy(build, `${build}.clean`)
  return module
}

async function buildFault({ name, patch }: Fault): Promise<Buffer> {
  await copy(`${source}.clean`, source)
  await copy(`${build}.clean`, build)
  await writeFile(join(workDir, 'patch'), patch)
  const { exitCode, stdout } = await execa(
    join(top, 'script/in-root'),
    ['patch', '-p2', '-F2', '--no-backup-if-mismatch', '-d', source, '-i', join(workDir, 'patch')],
    { reject: false },
  )
  if (exitCode !== 0) throw new Error(`${name}.patch no longer applies to kmod/: ${stdout.replaceAll('\n', '; ')}`)
  return await make()
}

interface Findings {
  /** "ok NAME" or "not ok NAME: why", one a case. */
  lines: string[]
  /** What the kernel complained of, and what ended the machine. */
  kernel: string[]
  left: Left
}

/** A machine in which no fault has left a trace, and its command for running cases. */
let machine: { lab: Lab; command: string[] } | undefined

async function cleanMachine() {
  if (machine) return machine
  const lab = await Lab.start()
  machine = { lab, command: await prepareRing(lab) }
  await lab.check(['modprobe', 'vhost'])
  await lab.kernelWarnings()
  return machine
}

async function discardMachine() {
  const old = machine
  machine = undefined
  await old?.lab.stop()
}

/** Runs these cases on this module; measures what is left only if asked to: that takes seconds. */
async function examine(module: Buffer, cases: string[], ruinous: boolean, measure: boolean): Promise<Findings> {
  const { lab, command } = await cleanMachine()
  await lab.check(['sh', '-c', 'cat >/run/vhost_blk.ko && insmod /run/vhost_blk.ko'], { stdin: module })
  const before = measure ? await held(lab) : undefined
  let lines: string[] = []
  const left: Left = { pins: 0, mount: 0 }
  const kernel: string[] = []
  try {
    const { stdout } = await lab.exec([...command, ...cases], { timeoutMs: ruinous ? 20_000 : 90_000 })
    lines = stdout.split('\n').filter(Boolean)
    const { exitCode, stderr } = await lab.exec(['rmmod', 'vhost_blk'], { timeoutMs: 10_000 })
    if (exitCode !== 0) kernel.push(stderr)
    if (before) {
      left.pins = (await held(lab)).pins - before.pins
      left.mount = Number((await lab.exec(['umount', imageDir])).exitCode !== 0)
    }
  } catch (error) {
    // Only of a fault that may ruin the machine is it a finding that the machine no longer answers.
    if (!ruinous) {
      await discardMachine()
      throw error
    }
    kernel.push((error as Error).message)
  }
  kernel.push(...(await lab.kernelWarnings()))
  if (ruinous || measure || kernel.length) await discardMachine()
  return { lines, kernel, left }
}

let control: Buffer

beforeAll(async () => {
  control = await buildControl()
}, 120_000)

afterAll(discardMachine)

describe('planted faults', () => {
  test('control: the cases pass on the module without a fault', async () => {
    const cases = [...new Set(faults.flatMap((fault) => fault.cases))]
    const { lines, kernel, left } = await examine(control, cases, false, true)
    expect(lines).toEqual(cases.map((name) => `ok ${name}`))
    expect(kernel).toEqual([])
    expect(left).toEqual({ pins: 0, mount: 0 })
  }, 180_000)

  test.each(faults)(
    '$name is found by $cases',
    async (fault) => {
      const { lines, kernel, left } = await examine(
        await buildFault(fault),
        fault.cases,
        fault.ruinous,
        Boolean(fault.leaves),
      )
      // A kernel that has complained, or a machine that has died of it, needs no case to tell.
      if (kernel.length) return
      if (fault.leaves) expect(left[fault.leaves]).toBeGreaterThan(0)
      else expect(lines).toEqual(fault.cases.map((name) => expect.stringMatching(new RegExp(`^not ok ${name}: .`))))
    },
    180_000,
  )
})
