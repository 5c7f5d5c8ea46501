// SPDX-License-Identifier: GPL-2.0-or-later

import { ExitCode, VblkError } from '../errors.ts'
import { listSlots } from '../vm/slots.ts'
import { requireVhostBlk, type Vm } from '../vm/vm.ts'
import { attachDisk } from './attach.ts'
import { Descriptors } from './descriptors.ts'
import { detachDisk } from './detach.ts'
import { differences } from './differences.ts'
import { type DiskInfo, listDisks } from './info.ts'
import { nodeName } from './names.ts'
import { attachCommands, type PlannedCommand } from './plan.ts'
import type { OperationOptions } from './report.ts'
import { checkRequest, type DiskRequest, type DiskSpec } from './spec.ts'

export interface ApplyOptions extends OperationOptions {
  /** Detach disks that vblk had attached and that aren't wanted. */
  prune: boolean
  /** Detach and attach again what differs; the guest loses the disk meanwhile. */
  replace: boolean
}

/** keep: it is as wanted. leave: not wanted, and left alone. */
export type ApplyAction = 'attach' | 'replace' | 'detach' | 'keep' | 'leave'

export interface ApplyStep {
  id: string
  action: ApplyAction
  /** In what the disk differs from what is wanted. */
  differences: string[]
}

export interface ApplyResult {
  vm: string
  changed: boolean
  steps: ApplyStep[]
  /** What was sent, or would be. */
  commands: PlannedCommand[]
  dryRun: boolean
}

interface PlannedStep extends ApplyStep {
  spec?: DiskSpec
  /** Where the disk is plugged in now. */
  bus?: string | null
}

/**
 * Brings a VM to having the wanted disks. All is looked at before anything is changed; `show` is told the steps then. Detaches
 * come first, since they free ports. Throws VblkError: what attach and detach throw, with a word on what was done before;
 * exit code 5 for a disk that differs and isn't to be replaced.
 */
export async function applyState(
  vm: Vm,
  wanted: readonly DiskRequest[],
  options: ApplyOptions,
  show: (steps: ApplyStep[]) => void,
): Promise<ApplyResult> {
  const { dryRun } = options
  const steps = await planSteps(vm, wanted, options)
  show(steps.map(withoutSpec))
  const differing = steps.filter(({ action, differences }) => action === 'keep' && differences.length > 0)
  if (differing.length > 0) throw differs(differing)
  const done: ApplyStep[] = []
  const commands: PlannedCommand[] = []
  try {
    for (const step of steps) {
      if (step.action === 'detach' || step.action === 'replace') {
        commands.push(...(await detachDisk(vm, step.id, options)).commands)
        if (step.action === 'detach') done.push(step)
      }
    }
    const free = dryRun ? await freeBuses(vm, steps, options) : []
    const reserved = new Set<number>()
    for (const step of steps) {
      if (step.spec === undefined || (step.action !== 'attach' && step.action !== 'replace')) continue
      const add = () => attachDisk(vm, step.spec as DiskSpec, options)
      commands.push(...(dryRun ? await wouldAttach(vm, step.spec, free, reserved) : (await add()).commands))
      done.push(step)
    }
  } catch (error) {
    throw withProgress(error, done)
  }
  const changed = done.length > 0 && !dryRun
  return { vm: vm.name, changed, steps: steps.map(withoutSpec), commands, dryRun }
}

/** The ports that would be free after the detaches, in the order in which attach takes them. */
async function freeBuses(vm: Vm, steps: PlannedStep[], { signal }: ApplyOptions): Promise<string[]> {
  await requireVhostBlk(vm, { signal })
  const leaving = steps.filter(({ action }) => action === 'detach' || action === 'replace').map(({ bus }) => bus)
  const slots = await listSlots(vm, { signal })
  return slots.filter(({ bus, occupants }) => occupants.length === 0 || leaving.includes(bus)).map(({ bus }) => bus)
}

async function wouldAttach(vm: Vm, spec: DiskSpec, free: string[], reserved: Set<number>): Promise<PlannedCommand[]> {
  const bus = spec.bus ?? free[0]
  if (bus === undefined) {
    throw new VblkError('NO_FREE_SLOT', ExitCode.Refused, `there would be no free hot-plug port for ${spec.id}`)
  }
  if (free.includes(bus)) free.splice(free.indexOf(bus), 1)
  const descriptors = spec.passFds === true ? await Descriptors.open(vm, spec, {}, reserved) : undefined
  descriptors?.close()
  return attachCommands(spec, bus, descriptors)
}

async function planSteps(vm: Vm, wanted: readonly DiskRequest[], options: ApplyOptions): Promise<PlannedStep[]> {
  const { signal, prune, replace } = options
  const disks = await listDisks(vm, { signal })
  const steps: PlannedStep[] = []
  for (const request of wanted) {
    const spec = await checkRequest(request)
    const disk = disks.find(({ id }) => id === request.id)
    if (disk === undefined) steps.push({ id: request.id, action: 'attach', differences: [], spec })
    else {
      const found = await differences(disk, spec)
      steps.push({
        id: request.id,
        action: found.length > 0 && replace ? 'replace' : 'keep',
        differences: found,
        spec,
        bus: disk.bus,
      })
    }
  }
  const unwanted = disks.filter((disk) => isOurs(disk) && !wanted.some(({ id }) => id === disk.id))
  steps.push(
    ...unwanted.map(
      ({ id, bus }): PlannedStep => ({ bus, id: id ?? '', action: prune ? 'detach' : 'leave', differences: [] }),
    ),
  )
  return steps
}

/** A disk that vblk attached: others belong to whoever started the VM. */
function isOurs({ id, node }: DiskInfo): boolean {
  return id !== null && node === nodeName(id)
}

function withoutSpec({ id, action, differences }: PlannedStep): ApplyStep {
  return { id, action, differences }
}

function differs(steps: ApplyStep[]): VblkError {
  const each = steps.map(({ id, differences }) => `${id}: ${differences.join('; ')}`)
  return new VblkError(
    'DISK_DIFFERS',
    ExitCode.Refused,
    `attached, and differs: ${each.join('. ')}. Nothing was changed`,
    {
      hint: 'give --replace to detach and attach again what differs: the guest loses the disk meanwhile',
      details: { steps },
    },
  )
}

function withProgress(error: unknown, done: ApplyStep[]): unknown {
  if (!(error instanceof VblkError) || done.length === 0) return error
  const before = done.map(({ id, action }) => `${action} ${id}`).join(', ')
  return new VblkError(error.code, error.exitCode, `${error.message}; done before: ${before}`, {
    ...(error.hint !== undefined && { hint: error.hint }),
    details: { ...error.details, done },
    cause: error,
  })
}
