// SPDX-License-Identifier: GPL-2.0-or-later
// The emulated machine L1: its command line, its cold boot, and the saved state that a warm start restores.

import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { closeSync, constants, existsSync, openSync, readFileSync } from 'node:fs'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { closeFd, openFd, tryLock } from '../../src/host/fd.ts'
import { QmpClient } from '../../src/qmp/client.ts'
import { AgentClient } from './agent-client.ts'
import { type HostKernel, hostKernels } from './setup/kernels.ts'
import { cache, labFiles, runDir, top } from './setup/paths.ts'
import { run } from './setup/run.ts'
import { ensure, stageKey } from './setup/stage.ts'
import {
  initrd as defaultInitrd,
  kernel as defaultKernel,
  guestStage,
  initrdStage,
  interruptOncePlugin,
  interruptOnceStage,
  machineImage,
  machineStage,
  projectImage,
} from './setup/stages.ts'

export interface MachineOptions {
  /** Virtual CPUs. More than one is unstable under emulation once guests run. */
  smp: number
  /** One instruction is one nanosecond: repeatable measurements. Emulation only. */
  icount: boolean
  /** MiB */
  memory: number
  /** Let it run on when this process ends. */
  keep: boolean
  /**
   * A kernel of setup/kernels.ts by its name (made if it is not there yet), or a kernel image, always booted cold and
   * without modules of its own.
   */
  kernel?: string | undefined
  /** More of the kernel's command line, like `slub_debug=FZPU`. */
  append?: string | undefined
  /** A TCG plugin and its arguments, as -plugin takes them; no part of the saved state. */
  plugin?: string | undefined
  /**
   * More of QEMU's arguments, for devices that the saved state knows nothing of: a restored machine finds them when its PCI
   * bus is scanned again.
   */
  args?: string[] | undefined
}

export const defaultOptions: MachineOptions = { smp: 1, icount: false, memory: 2560, keep: false }

/**
 * Whether this machine truly has hardware virtualization: the cpu flags say so. /dev/kvm may be there without them and run
 * no ordinary kernel.
 */
export function hasHardwareVirtualization(): boolean {
  return existsSync('/dev/kvm') && /^flags\s*:.* (vmx|svm)( |$)/m.test(readFileSync('/proc/cpuinfo', 'utf8'))
}

/** A place for one machine's sockets and logs. */
export interface MachinePaths {
  dir: string
  qmp: string
  agent: string
  console: string
  log: string
  pid: string
}

export const machinePaths = (dir: string): MachinePaths => ({
  dir,
  qmp: join(dir, 'qmp.sock'),
  agent: join(dir, 'agent.sock'),
  console: join(dir, 'console.log'),
  log: join(dir, 'qemu.log'),
  pid: join(dir, 'pid'),
})

interface Disk {
  path: string
  /** Throw away what this run writes. */
  snapshot: boolean
}

/** The kernel of that name; undefined for an image, and for the lab's own. */
const hostKernel = ({ kernel }: MachineOptions): HostKernel | undefined => (kernel ? hostKernels[kernel] : undefined)

function commandLine(options: MachineOptions, paths: MachinePaths, disk: Disk, incoming: boolean): string[] {
  // AVX off: not needed here, and nested emulation of it has been a source of faults.
  const cpu = hasHardwareVirtualization()
    ? ['-accel', 'kvm', '-cpu', 'host']
    : [
        ...['-accel', options.icount ? 'tcg,thread=single' : 'tcg', '-cpu', 'EPYC,+svm,+npt,-avx,-avx2'],
        ...['-plugin', interruptOncePlugin],
      ]
  const { image, initrd, moduleImage } = hostKernel(options) ?? {
    image: options.kernel ?? defaultKernel,
    initrd: defaultInitrd,
  }
  const append = [
    'console=ttyS0',
    'loglevel=6',
    'panic=-1',
    'mitigations=off',
    'systemd.log_level=err',
    ...(options.icount ? [] : ['rcupdate.rcu_cpu_stall_timeout=120', 'watchdog_thresh=60']),
    ...(options.append ? [options.append] : []),
  ]
  return [
    'qemu-system-x86_64',
    '-name',
    'vblk-lab',
    '-machine',
    'q35,vmport=off',
    ...cpu,
    ...(options.icount ? ['-icount', 'shift=0,sleep=off'] : []),
    ...(options.plugin ? ['-plugin', options.plugin] : []),
    '-smp',
    String(options.smp),
    '-m',
    `${options.memory}M`,
    '-nodefaults',
    '-no-user-config',
    '-no-reboot',
    '-display',
    'none',
    '-kernel',
    image,
    '-initrd',
    initrd,
    '-append',
    append.join(' '),
    '-drive',
    `if=none,id=system,file=${disk.path},format=qcow2,cache=unsafe,snapshot=${disk.snapshot ? 'on' : 'off'}`,
    '-device',
    'virtio-blk-pci,drive=system',
    '-drive',
    `if=none,id=project,file=${projectImage},format=raw,readonly=on`,
    '-device',
    'virtio-blk-pci,drive=project',
    ...(moduleImage
      ? [
          '-drive',
          `if=none,id=modules,file=${moduleImage},format=raw,readonly=on`,
          '-device',
          'virtio-blk-pci,drive=modules',
        ]
      : []),
    '-device',
    'virtio-rng-pci',
    '-device',
    'virtio-serial-pci',
    '-chardev',
    `socket,id=agent,path=${paths.agent},server=on,wait=off`,
    '-device',
    'virtserialport,chardev=agent,name=org.vblk.lab',
    '-chardev',
    `file,id=console,path=${paths.console},append=on`,
    '-serial',
    'chardev:console',
    '-qmp',
    `unix:${paths.qmp},server=on,wait=off`,
    ...(options.args ?? []),
    ...(incoming ? ['-incoming', 'defer'] : []),
  ]
}

async function launch(args: string[], paths: MachinePaths, keep: boolean): Promise<ChildProcess> {
  await mkdir(paths.dir, { recursive: true, mode: 0o700 })
  for (const path of [paths.qmp, paths.agent, paths.console, paths.log]) await rm(path, { force: true })
  const log = openSync(paths.log, 'w')
  const command = [join(top, 'script/in-root'), ...args]
  // However the caller ends, a machine that no later one will look for ends with it.
  if (!keep) command.unshift('setpriv', '--pdeathsig', 'KILL')
  const [file = '', ...rest] = command
  const child = spawn(file, rest, { stdio: ['ignore', log, log], detached: true })
  closeSync(log)
  await new Promise<void>((resolve, reject) => {
    child.once('spawn', resolve)
    child.once('error', reject)
  })
  child.unref()
  await writeFile(paths.pid, `${child.pid}\n`)
  for (let waited = 0; !existsSync(paths.qmp) || !existsSync(paths.agent); waited += 20) {
    if (child.exitCode !== null || waited > 20_000)
      throw new Error(`L1's QEMU did not start: ${(await readFile(paths.log, 'utf8')).trim() || 'no word from it'}`)
    await sleep(20)
  }
  return child
}

/** Ends a machine, started by this process or another; nothing to do if it is down. */
export async function kill(paths: MachinePaths): Promise<void> {
  const pid = await machinePid(paths)
  if (pid !== undefined) {
    process.kill(pid, 'SIGKILL')
    for (let waited = 0; waited < 5000 && (await machinePid(paths)) !== undefined; waited += 20) await sleep(20)
  }
  await rm(paths.pid, { force: true })
}

/** The process of a running machine; undefined if it is down (or its number now belongs to another program). */
export async function machinePid(paths: MachinePaths): Promise<number | undefined> {
  const pid = Number(await readFile(paths.pid, 'utf8').catch(() => ''))
  if (!pid) return undefined
  const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  return command.includes(paths.agent) ? pid : undefined
}

async function coldBoot(options: MachineOptions, paths: MachinePaths, disk: Disk): Promise<AgentClient> {
  await launch(commandLine(options, paths, disk, false), paths, options.keep)
  return await AgentClient.connect(paths.agent, 180_000 * (hostKernel(options)?.slowness ?? 1))
}

async function newOverlay(path: string): Promise<void> {
  await rm(path, { force: true })
  await run(join(top, 'script/in-root'), [
    'qemu-img',
    'create',
    '-q',
    '-f',
    'qcow2',
    '-b',
    machineImage,
    '-F',
    'raw',
    path,
  ])
}

/** Waits for a migration of the outer QEMU to end. */
async function migrated(qmp: QmpClient): Promise<void> {
  for (;;) {
    const { status, 'error-desc': reason } = await qmp.execute('query-migrate')
    if (status === 'completed') return
    if (status === 'failed' || status === 'cancelled')
      throw new Error(`saving or restoring L1 failed: ${reason ?? status}`)
    await sleep(20)
  }
}

interface WarmState {
  overlay: string
  state: string
}

/** One saved state for each set of options that tests use; what else it depends on is in the key. */
function warmStateName({ smp, icount, memory, kernel, append }: MachineOptions): string {
  const parts = ['warm', smp, ...(icount ? ['icount'] : []), memory, ...(kernel ? [kernel] : [])]
  if (append) parts.push(createHash('sha256').update(append).digest('hex').slice(0, 8))
  return parts.join('-')
}

async function warmStateKey(options: MachineOptions): Promise<string> {
  const guest = await readFile(join(import.meta.dirname, 'guest.ts'), 'utf8')
  const named = hostKernel(options)
  const stages = [machineStage, initrdStage, guestStage, interruptOnceStage, ...(named ? [named.stage] : [])]
  const parts = [...(await Promise.all(stages.map(stageKey))), guest]
  // The command line says all that the options do.
  parts.push(
    commandLine(options, machinePaths(''), { path: '', snapshot: false }, false).join('\0'),
    loadModules.join(' '),
    settle.join(' '),
  )
  return createHash('sha256').update(parts.join('\0')).digest('hex').slice(0, 16)
}

const shell = (script: string) => ['sh', '-c', script]

/** What a saved machine has done already: loaded the modules that guests need… */
const loadModules = shell('modprobe kvm_amd nested=1 2>/dev/null || modprobe kvm_intel; modprobe vhost; modprobe loop')

/** …and left only what is of use in its page cache. */
const settle = shell('sync; echo 3 >/proc/sys/vm/drop_caches; node -e 0; qemu-system-x86_64 -version')

async function waitFor(agent: AgentClient, argv: string[]): Promise<void> {
  let output = ''
  const collect = (data: Buffer) => {
    output += data
  }
  const code = await agent.start(argv, { cwd: '/', onOutput: collect, onError: collect }).exited
  if (code !== 0) throw new Error(`in L1: ${argv.join(' ')}: exit ${code}\n${output}`)
}

/** Adds to a machine what its saved state shall hold. */
export type Furnish = (agent: AgentClient, paths: MachinePaths, options: MachineOptions) => Promise<void>

/** Runs what only one process at a time may do. */
async function exclusively<T>(lockFile: string, work: () => Promise<T>): Promise<T> {
  const lock = openFd(lockFile, constants.O_RDWR | constants.O_CREAT)
  try {
    while (!tryLock(lock, 'exclusive')) await sleep(200)
    return await work()
  } finally {
    closeFd(lock)
  }
}

/** The saved state for these options; boots and saves a machine if there is none for what they and the image are now. */
async function warmState(
  options: MachineOptions,
  report: (line: string) => void,
  furnish: Furnish,
): Promise<WarmState> {
  const name = warmStateName(options)
  return await exclusively(join(labFiles, `${name}.lock`), () => freshWarmState(name, options, report, furnish))
}

async function freshWarmState(
  name: string,
  options: MachineOptions,
  report: (line: string) => void,
  furnish: Furnish,
): Promise<WarmState> {
  const base = join(labFiles, name)
  const saved = { overlay: `${base}.qcow2`, state: `${base}.state` }
  const key = await warmStateKey(options)
  if ((await readFile(`${base}.key`, 'utf8').catch(() => '')) === key && existsSync(saved.state)) return saved

  report('lab: booting the machine once, to save its state…')
  const paths = machinePaths(join(runDir, name))
  await rm(`${base}.key`, { force: true })
  await newOverlay(saved.overlay)
  try {
    const agent = await coldBoot({ ...options, keep: false }, paths, { path: saved.overlay, snapshot: false })
    await waitFor(agent, loadModules)
    await furnish(agent, paths, options)
    await waitFor(agent, settle)
    agent.close()
    const qmp = await QmpClient.connect({ path: paths.qmp })
    await qmp.execute('stop')
    await qmp.execute('migrate', { uri: `file:${saved.state}.new` })
    await migrated(qmp)
    await qmp.execute('quit').catch(() => undefined)
    await qmp.close()
    for (let waited = 0; waited < 5000 && (await machinePid(paths)) !== undefined; waited += 20) await sleep(20)
  } finally {
    await kill(paths)
  }
  await rename(`${saved.state}.new`, saved.state)
  await writeFile(`${base}.key`, key)
  return saved
}

/**
 * Makes a kernel of setup/kernels.ts and the module for it, whatever is missing or stale.
 *
 * @throws KernelUnavailable if the archive has it no more
 */
export async function ensureKernel(kernel: HostKernel, report: (line: string) => void): Promise<void> {
  await mkdir(join(cache, 'kernels'), { recursive: true })
  await exclusively(join(cache, 'kernels/lock'), () => ensure([kernel.moduleStage], report))
}

/**
 * Starts L1 from its saved state, or cold if a kernel image is given.
 *
 * @returns the agent in it, answering
 */
export async function startMachine(
  options: MachineOptions,
  paths: MachinePaths,
  report: (line: string) => void,
  furnish: Furnish,
): Promise<AgentClient> {
  await mkdir(paths.dir, { recursive: true, mode: 0o700 })
  const named = hostKernel(options)
  if (named) await ensureKernel(named, report)
  else if (options.kernel) {
    const overlay = join(paths.dir, 'system.qcow2')
    await newOverlay(overlay)
    return await coldBoot(options, paths, { path: overlay, snapshot: false })
  }
  const saved = await warmState({ ...options, plugin: undefined, args: undefined }, report, furnish)
  await launch(commandLine(options, paths, { path: saved.overlay, snapshot: true }, true), paths, options.keep)
  const qmp = await QmpClient.connect({ path: paths.qmp })
  await qmp.execute('migrate-incoming', { uri: `file:${saved.state}` })
  await migrated(qmp)
  await qmp.execute('cont')
  await qmp.close()
  return await AgentClient.connect(paths.agent, 30_000 * (named?.slowness ?? 1))
}
