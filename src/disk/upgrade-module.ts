// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { type DeviceUser, findDeviceUsers } from '../host/device-users.ts'
import { readLoadedModule } from '../host/loaded-module.ts'
import type { ModuleFile } from '../host/module-file.ts'
import { findLoadedFile } from '../host/module-install.ts'
import { insertWithVhost, loadModule, requireModuleFile } from '../host/module-load.ts'
import { unloadModule } from '../host/module-unload.ts'
import { requireRoot } from '../host/root.ts'
import { ABI_VERSION, DEVICE_PATH, readInfo } from '../host/vhost-blk.ts'
import { lockVm } from '../vm/lock.ts'
import { requireHere } from '../vm/presence.ts'
import { findProcess } from '../vm/qemu-process.ts'
import { listRegistered } from '../vm/registry.ts'
import { openVm, type Vm } from '../vm/vm.ts'
import { foreignKernel, renewKernel, withdrawKernel } from './descriptors.ts'
import { type DiskInfo, listDisks } from './info.ts'
import { pause } from './pause.ts'
import type { OperationOptions } from './report.ts'
import { readVhostState } from './vhost-state.ts'

export interface UpgradeResult {
  /** False if the wanted module was loaded already. */
  changed: boolean
  /** The file of the wanted module. */
  path: string
  /** The disks that stepped aside, and who serves them now. */
  disks: { vm: string; id: string | null; datapath: DiskInfo['datapath'] }[]
  /** What was done, or would be: QMP commands by VM, and commands of the host. */
  steps: UpgradeStep[]
  dryRun: boolean
}

export type UpgradeStep = { vm: string; execute: string; arguments: object } | { run: string }

interface Disk {
  vm: Vm
  info: DiskInfo
}

export interface UpgradeOptions extends OperationOptions {
  trace?: ((line: string) => void) | undefined
}

/**
 * Exchanges the loaded module under running VMs: their disks step over to QEMU, which closes /dev/vhost-blk, and return to
 * the new module. The guests notice nothing. Whatever fails, the old module and the disks come back.
 *
 * @param names - VMs that use the module, beside the registered ones
 * @param buildDir - take the module from this folder and not the installed one
 * @throws VblkError: exit code 4 for a module that doesn't fit, 5 if a disk's descriptor is another's or only the disks' service by
 *   QEMU could be kept, 7 when all is as
 *   before, 9 while somebody whom no monitor is known of uses the module
 */
export async function upgradeModule(
  names: readonly string[],
  buildDir: string | undefined,
  options: UpgradeOptions,
): Promise<UpgradeResult> {
  const { dryRun, signal, timeoutMs } = options
  const file = await requireModuleFile(buildDir)
  const result = { path: file.path, disks: [], steps: [], dryRun }
  const loaded = await readLoadedModule()
  if (loaded && loaded.srcversion === file.srcversion) return { ...result, changed: false }
  if (!dryRun) requireRoot('upgrade')
  if (!loaded) {
    const steps = [{ run: `insmod ${file.path}` }]
    if (!dryRun) await loadModule(buildDir, { signal, timeoutMs })
    return { ...result, steps, changed: !dryRun }
  }
  const old = await findLoadedFile()
  if (old === undefined) options.report.warn('the file of the loaded module is gone: it could not be loaded again')
  const users = await findDeviceUsers()
  const vms = await openUsers(names, users, options)
  try {
    for (const vm of vms) await requireHere(vm, { signal })
    const all = await listAll(vms, signal)
    await requireOurs(all, signal)
    const disks = all.filter(({ info }) => (info.kernel?.fds.length ?? 0) > 0)
    const steps = plan(disks, file)
    if (dryRun) return { ...result, steps, changed: false }
    // Disks that QEMU serves, some of which were passed a /dev/vhost-blk all the same.
    const idle = all.filter(({ info }) => info.kernel?.fds.length === 0)
    for (const { vm, info } of idle) await withdrawKernel(vm, info, { signal })
    try {
      await exchange(disks, file, old, options)
    } finally {
      await renewIdle(idle, options.report)
    }
    const now = await Promise.all(disks.map(async (disk) => (await reread(disk)) ?? disk.info))
    const after = disks.map(({ vm }, index) => ({ vm: vm.name, info: now[index] as DiskInfo }))
    const told = after.map(({ vm, info }) => ({ vm, id: info.id, datapath: info.datapath }))
    return { ...result, disks: told, steps, changed: true }
  } finally {
    for (const vm of vms) await vm.close()
  }
}

interface LockedVm extends Vm {
  close(): Promise<void>
}

/** The locked monitors of all processes that use the module. Throws VblkError (exit code 9) for one without a known monitor. */
async function openUsers(names: readonly string[], users: DeviceUser[], options: UpgradeOptions): Promise<LockedVm[]> {
  const { signal, timeoutMs, report, trace } = options
  const waiting = new Map(users.map((user) => [user.pid, user]))
  const vms: LockedVm[] = []
  try {
    for (const { name, given } of await candidates(names)) {
      if (waiting.size === 0) break
      const vm = await openVm(name, { signal, timeoutMs, trace }).catch((error: unknown) => {
        // A registered VM need not run.
        if (given || !(error instanceof VblkError) || signal.aborted) throw error
        return undefined
      })
      if (vm === undefined) continue
      const process = findProcess(vm)
      if ('unknown' in process || !waiting.delete(process.pid)) {
        await vm.qmp.close()
        continue
      }
      let unlock = () => {}
      const close = async () => {
        unlock()
        await vm.qmp.close()
      }
      vms.push({ ...vm, close })
      unlock = lockVm(vm, (message) => report.warn(message))
    }
    if (waiting.size > 0) throw unknownUsers([...waiting.values()])
    return vms
  } catch (error) {
    for (const vm of vms) await vm.close()
    throw error
  }
}

async function candidates(names: readonly string[]): Promise<{ name: string; given: boolean }[]> {
  const registered = (await listRegistered()).map(({ name }) => name).filter((name) => !names.includes(name))
  return [...names.map((name) => ({ name, given: true })), ...registered.map((name) => ({ name, given: false }))]
}

function unknownUsers(users: DeviceUser[]): VblkError {
  const list = users.map(({ command, pid }) => `${command} (pid ${pid})`).join(', ')
  return new VblkError('MODULE_IN_USE', ExitCode.Busy, `the module is in use by ${list}, whose monitor is not known`, {
    hint: 'give the sockets of these VMs: vblk module upgrade VM…, or register them with: vblk vm add',
    details: { pids: users.map(({ pid }) => pid) },
  })
}

async function listAll(vms: readonly Vm[], signal: AbortSignal): Promise<Disk[]> {
  const lists = await Promise.all(
    vms.map(async (vm) => (await listDisks(vm, { signal })).map((info) => ({ vm, info }))),
  )
  return lists.flat()
}

/** Throws VblkError (exit code 5) for a disk whose /dev/vhost-blk somebody else has given it: it would keep the module loaded. */
async function requireOurs(disks: readonly Disk[], signal: AbortSignal): Promise<void> {
  for (const { vm, info } of disks) {
    const given = info.kernel === null ? undefined : await foreignKernel(vm, info, { signal })
    if (given === undefined) continue
    const name = info.id ?? info.path
    throw new VblkError(
      'DESCRIPTOR_NOT_OURS',
      ExitCode.Refused,
      `${vm.name}: ${name} was given its ${DEVICE_PATH} by somebody else (${given}), which keeps the module loaded`,
      { hint: 'whoever gave it takes it back and gives another: "Another module under running VMs" in docs/device.md' },
    )
  }
}

async function renewIdle(disks: readonly Disk[], report: OperationOptions['report']): Promise<void> {
  for (const { vm, info } of disks) {
    await renewKernel(vm, info).catch((error: Error) => {
      report.warn(`${vm.name}: ${info.id ?? info.path} can't be given to the kernel later: ${error.message}`)
    })
  }
}

const setActive = ({ info }: Disk, value: boolean) => ({ path: info.path, property: 'vhost-active', value })

function plan(disks: readonly Disk[], file: ModuleFile): UpgradeStep[] {
  const set = (value: boolean) =>
    disks.map((disk) => ({ vm: disk.vm.name, execute: 'qom-set', arguments: setActive(disk, value) }))
  return [...set(false), { run: 'rmmod vhost_blk' }, { run: `insmod ${file.path}` }, ...set(true)]
}

async function exchange(
  disks: readonly Disk[],
  file: ModuleFile,
  old: ModuleFile | undefined,
  options: UpgradeOptions,
): Promise<void> {
  const { report, signal, timeoutMs } = options
  let exchanged = false
  try {
    await report.step(`moving ${disks.length} disks to QEMU`, () => leaveAll(disks, timeoutMs, signal))
    await report.step(`loading ${file.path}`, async () => {
      await unloadModule({ signal, timeoutMs })
      exchanged = true
      await load(file)
    })
    signal.throwIfAborted()
    await report.step('giving the disks back to the kernel', () => giveBack(disks, report))
  } catch (error) {
    throw await takeBack(error, disks, exchanged, old, report)
  }
}

/** What must be done to its end, whatever the command's own limit is. */
const mendMs = 60_000

async function load(file: ModuleFile): Promise<void> {
  await insertWithVhost(file, { timeoutMs: mendMs })
  const { abiVersion } = readInfo()
  if (abiVersion === ABI_VERSION) return
  throw new VblkError(
    'MODULE_ABI',
    ExitCode.HostLacks,
    `${file.path} speaks ABI version ${abiVersion}, and this vblk ${ABI_VERSION}`,
  )
}

const pollMs = 50

/** Has QEMU serve the disks, and waits until none of them has /dev/vhost-blk open. */
async function leaveAll(disks: readonly Disk[], timeoutMs: number, signal?: AbortSignal): Promise<void> {
  const deadline = Date.now() + timeoutMs
  const wait = signal ? { signal } : {}
  for (const disk of disks) await disk.vm.qmp.execute('qom-set', setActive(disk, false), wait)
  for (const { vm, info } of disks) {
    for (;;) {
      const state = await readVhostState(vm, info.path, wait)
      if (state === undefined || state.fds.length === 0) break
      if (Date.now() >= deadline) {
        const name = info.id ?? info.path
        throw new VblkError(
          'DISK_STAYS',
          ExitCode.TimedOut,
          `${vm.name}: ${name} still holds the module: ${state.reason}`,
        )
      }
      await pause(pollMs, signal)
    }
    await withdrawKernel(vm, info, wait)
  }
}

/** Throws for a disk that the kernel served and does no more. */
async function giveBack(disks: readonly Disk[], report: OperationOptions['report']): Promise<void> {
  for (const disk of disks) {
    try {
      await renewKernel(disk.vm, disk.info, { timeoutMs: mendMs })
      await disk.vm.qmp.execute('qom-set', setActive(disk, true), { timeoutMs: mendMs })
    } catch (error) {
      if (disk.info.datapath === 'kernel') throw error
      const { vm, info } = disk
      report.warn(
        `${vm.name}: ${info.id ?? info.path} stays with QEMU until it is given back (vblk datapath): ${(error as Error).message}`,
      )
    }
  }
}

/** Restores the old module and the disks' datapaths, and returns the error to end with. */
async function takeBack(
  cause: unknown,
  disks: readonly Disk[],
  exchanged: boolean,
  old: ModuleFile | undefined,
  report: OperationOptions['report'],
): Promise<VblkError> {
  const reason = (cause as Error).message
  try {
    await report.step('putting the old module and the disks back', async () => {
      if (exchanged) await reload(disks, old)
      await giveBack(disks, report)
    })
  } catch (error) {
    const message = `the module was not exchanged: ${reason}; and the disks are not back on it, QEMU serves them: ${(error as Error).message}`
    return new VblkError('MODULE_LOST', ExitCode.Refused, message, {
      hint: 'the guests run on; load a module with "vblk module load", then for each disk: vblk datapath VM DISK kernel',
      cause,
    })
  }
  return new VblkError(
    'MODULE_NOT_UPGRADED',
    ExitCode.RolledBack,
    `the module was not exchanged: ${reason}; all is as before`,
    {
      cause,
    },
  )
}

async function reload(disks: readonly Disk[], old: ModuleFile | undefined): Promise<void> {
  await leaveAll(disks, mendMs)
  await unloadModule({ timeoutMs: mendMs })
  if (old === undefined) throw new Error('the file of the old module is gone')
  await load(old)
}

async function reread({ vm, info }: Disk): Promise<DiskInfo | undefined> {
  return (await listDisks(vm)).find(({ path }) => path === info.path)
}
