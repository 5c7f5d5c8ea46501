// SPDX-License-Identifier: GPL-2.0-or-later
// A real QEMU of the lab's root, by emulation and without a guest, and the vblk command line to use on it.

import { type ChildProcess, type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { chmod, mkdtemp, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { QmpClient } from '../../src/qmp/index.ts'
import { builtObject } from '../device/root-qemu.ts'
import { top } from '../lab/setup/paths.ts'
import type { Envelope } from '../lab/vblk.ts'
import { program } from './program.ts'

export interface QemuOptions {
  /** Number of hot-plug ports, rp1 and so on; 2 unless told. */
  ports?: number
  /** Load the vhost-blk device; unless told, yes. */
  plugin?: boolean
  /**
   * Who removes a device without a guest: with ACPI hot-plug (QEMU's default) nobody, so an unplug stays pending; with
   * native PCIe hot-plug QEMU itself, as long as the slot's power was never switched on.
   */
  hotplug?: 'acpi' | 'native'
  args?: string[]
}

/** What a test compares before and after: everything that an attach adds. */
export interface State {
  devices: string[]
  nodes: string[]
}

/** A running QEMU with two monitors: one for vblk, one for the test. */
export class Qemu {
  /** The socket that vblk gets. */
  readonly socket: string
  readonly qmp: QmpClient
  readonly process: ChildProcess

  private constructor(socket: string, qmp: QmpClient, process: ChildProcess) {
    this.socket = socket
    this.qmp = qmp
    this.process = process
  }

  /** What starts one, with its monitors for vblk and for the test. */
  static async command(socket: string, options: QemuOptions = {}): Promise<string[]> {
    const { ports = 2, plugin = true, hotplug = 'acpi', args = [] } = options
    const monitors = [socket, `${socket}.test`].flatMap((path) => ['-qmp', `unix:${path},server=on,wait=off`])
    const rootPorts = Array.from({ length: ports }, (_, index) => index + 1).flatMap((number) => [
      '-device',
      `pcie-root-port,id=rp${number},chassis=${number},slot=${number}`,
    ])
    const basic = ['-machine', 'q35', '-accel', 'tcg', '-m', '64M', '-nodefaults', '-display', 'none']
    return [
      join(top, 'script/in-root'),
      'qemu-system-x86_64',
      ...basic,
      ...(plugin ? ['-plugin', `file=${await builtObject()}`] : []),
      ...(hotplug === 'native' ? ['-global', 'ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off'] : []),
      ...monitors,
      ...rootPorts,
      ...args,
    ]
  }

  static async start(dir: string, name: string, options: QemuOptions = {}): Promise<Qemu> {
    const socket = join(dir, `${name}.sock`)
    const [file = '', ...args] = await Qemu.command(socket, options)
    const child = spawn(file, args, { env: process.env })
    let said = ''
    child.stderr.on('data', (chunk) => {
      said += chunk
    })
    const qmp = await connectWhenUp(`${socket}.test`, () => {
      if (child.exitCode !== null) throw new Error(`QEMU ended: ${said}`)
    })
    return new Qemu(socket, qmp, child)
  }

  async state(): Promise<State> {
    const devices = await this.qmp.execute('qom-list', { path: '/machine/peripheral' })
    const nodes = await this.qmp.execute('query-named-block-nodes', { flat: true })
    return {
      devices: devices.map((device) => `${device.name} ${device.type}`).sort(),
      nodes: nodes.map((node) => node['node-name'] ?? '').sort(),
    }
  }

  async stop(): Promise<void> {
    await this.qmp.close()
    if (this.process.exitCode !== null || this.process.signalCode !== null) return
    const ended = new Promise((resolve) => this.process.once('exit', resolve))
    this.process.kill('SIGKILL')
    await ended
  }
}

/** A folder for sockets and images that every user may read. */
export async function makeFolder(): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'vblk-it-'))
  await chmod(dir, 0o755)
  return dir
}

export const removeFolder = (dir: string) => rm(dir, { recursive: true, force: true })

/** An image of zeroes. */
export async function makeImage(path: string, bytes = 8 << 20): Promise<string> {
  await writeFile(path, '')
  await truncate(path, bytes)
  return path
}

export interface Outcome<T> {
  exitCode: number | null
  stdout: string
  stderr: string
  envelope: Envelope<T>
}

export interface Running<T> {
  process: ChildProcess
  outcome: Promise<Outcome<T>>
}

export interface VblkOptions {
  /** What a person sees, instead of JSON. */
  text?: boolean
  /** The user that runs vblk; root unless told. */
  uid?: number
  /** A folder that is a read-only medium for this vblk alone. */
  readOnlyFolder?: string
  /** A file that vblk inherits as descriptor 3. */
  descriptor?: { file: string; flags: number }
}

// The mounts live in a namespace of their own; the values are arguments that the shell doesn't parse.
const withReadOnly = 'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"; shift; exec "$@"'

/** Starts vblk as a user would, with --json unless told. */
export function startVblk<T = unknown>(argv: string[], options: VblkOptions = {}): Running<T> {
  const { text = false, uid = 0, readOnlyFolder, descriptor } = options
  const wrapper =
    readOnlyFolder === undefined
      ? []
      : ['unshare', '--mount', '--propagation', 'private', 'sh', '-euc', withReadOnly, 'sh', readOnlyFolder]
  const [command = '', ...args] = [
    ...wrapper,
    process.execPath,
    program,
    ...argv,
    '--quiet',
    ...(text ? [] : ['--json']),
  ]
  // Another user has no home here.
  const env = uid === 0 ? process.env : { ...process.env, HOME: '/nonexistent' }
  const inherited = descriptor === undefined ? [] : [openSync(descriptor.file, descriptor.flags)]
  const stdio: ('pipe' | number)[] = ['pipe', 'pipe', 'pipe', ...inherited]
  const child = spawn(command, args, { cwd: top, uid, gid: uid, env, stdio }) as ChildProcessWithoutNullStreams
  for (const fd of inherited) closeSync(fd)
  let stdout = ''
  let stderr = ''
  child.stdout.on('data', (chunk) => {
    stdout += chunk
  })
  child.stderr.on('data', (chunk) => {
    stderr += chunk
  })
  const outcome = new Promise<Outcome<T>>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (exitCode) => {
      try {
        const envelope = text ? { ok: exitCode === 0, warnings: [] } : (JSON.parse(stdout) as Envelope<T>)
        resolve({ exitCode, stdout, stderr, envelope })
      } catch {
        reject(new Error(`vblk ${argv.join(' ')}: exit ${exitCode}, stdout is not JSON: ${stdout}\n${stderr}`))
      }
    })
  })
  return { process: child, outcome }
}

/** Runs vblk to its end. */
export const vblk = <T = unknown>(argv: string[], options?: VblkOptions) => startVblk<T>(argv, options).outcome

async function connectWhenUp(path: string, requireAlive: () => void): Promise<QmpClient> {
  for (const deadline = Date.now() + 30_000; ; ) {
    try {
      return await QmpClient.connect({ path })
    } catch (error) {
      requireAlive()
      if (Date.now() > deadline) throw error
    }
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
}
