// SPDX-License-Identifier: GPL-2.0-or-later
// What the command line adds: to Node's own start, and to what QEMU takes for the same.
import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { cpu, interleave, type Time, type Timed, timeProgram, wall } from '../cli/program-time.ts'
import type { Figures, LocalCase, Suite } from '../suite.ts'

const rounds = 25

const toTenths = (milliseconds: number) => Number(milliseconds.toFixed(1))

/** Not loaded with this file: it builds the bundle if that is older than its sources. */
const withQemus = () => import('../../integration/qemu.ts')
const program = async () => [process.execPath, (await import('../../integration/program.ts')).program]
const node = () => timeProgram([process.execPath, '-e', '0'])

/** CPU times beside the wall-clock ones: a busy machine stretches those less. */
function cpuDetails(ours: readonly Time[], peers: Record<string, readonly Time[]>): Record<string, number> {
  const own = cpu(ours)
  const details: Record<string, number> = { rounds: ours.length, 'CPU ms': toTenths(own) }
  for (const [name, times] of Object.entries(peers)) {
    details[`CPU ms of ${name}`] = toTenths(cpu(times))
    details[`CPU ratio to ${name}`] = Number((own / cpu(times)).toFixed(3))
  }
  return details
}

/** Figures of two works, their medians compared. */
async function beside(name: string, ours: Timed, peer: Timed, times = rounds): Promise<Figures> {
  const measured = await interleave({ ours, peer }, times)
  return {
    ours: wall(measured.ours),
    peers: { [name]: wall(measured.peer) },
    details: cpuDetails(measured.ours, { [name]: measured.peer }),
  }
}

const version: LocalCase = {
  ...{ name: 'version', unit: 'ms', better: 'lower', goals: { 'node-e-0': 1.6 } },
  async measure() {
    const command = [...(await program()), '--version']
    return await beside('node-e-0', () => timeProgram(command), node)
  },
}

type Qemu = Awaited<ReturnType<Awaited<ReturnType<typeof withQemus>>['Qemu']['start']>>

/** VMs that wait for their start, each with a disk: nothing but the monitors uses the processor. */
async function withVms<T>(
  dir: string,
  { count, monitors }: { count: number; monitors: number },
  work: (vms: Qemu[], sockets: string[]) => Promise<T>,
): Promise<T> {
  const { makeImage, Qemu } = await withQemus()
  const image = await makeImage(join(dir, 'disk.raw'))
  const vms: Qemu[] = []
  const sockets: string[] = []
  try {
    for (let index = 0; index < count; index++) {
      const own = Array.from({ length: monitors }, (_, number) => join(dir, `vm${index}-${number}`))
      sockets.push(...own)
      const args = [
        '-S',
        ...['-blockdev', `raw,node-name=n0,read-only=on,file.driver=file,file.filename=${image}`],
        ...['-device', 'virtio-blk-pci,drive=n0,id=d0'],
        ...own.flatMap((path) => ['-qmp', `unix:${path},server=on,wait=off`]),
      ]
      vms.push(await Qemu.start(dir, `vm${index}`, { hotplug: 'native', ports: 2, args }))
    }
    return await work(vms, sockets)
  } finally {
    await Promise.all(vms.map((vm) => vm.stop()))
  }
}

/** A figure of a list that isn't there would be a fine one. */
async function requireDisks(command: readonly string[], count: number): Promise<void> {
  const [file = '', ...args] = command
  const { stdout } = await promisify(execFile)(file, args, { maxBuffer: 64 << 20 })
  const found = stdout.match(/"id":"d0"/g)?.length ?? 0
  if (found !== count) throw new Error(`${command.join(' ')} lists ${found} disks of ${count}: ${stdout.slice(0, 500)}`)
}

const listOne: LocalCase = {
  ...{ name: 'list-1-vm', unit: 'ms', better: 'lower', goals: { 'node-e-0': 2.2 } },
  measure: (dir) =>
    withVms(dir, { count: 1, monitors: 1 }, async (_vms, sockets) => {
      const command = [...(await program()), 'list', ...sockets, '--json']
      await requireDisks(command, 1)
      return await beside('node-e-0', () => timeProgram(command), node)
    }),
}

/** A hundred monitors of ten QEMUs: a hundred QEMUs would measure the machine's memory. */
const listHundred: LocalCase = {
  ...{ name: 'list-100-vms', unit: 'ms', better: 'lower', goals: { 'list-1-vm': 12 } },
  measure: (dir) =>
    withVms(dir, { count: 10, monitors: 10 }, async (_vms, sockets) => {
      const list = [...(await program()), 'list']
      const all = [...list, ...sockets, '--json']
      await requireDisks(all, 100)
      const one = [...list, sockets[0] ?? '', '--json']
      return await beside(
        'list-1-vm',
        () => timeProgram(all),
        () => timeProgram(one),
        10,
      )
    }),
}

interface Command {
  execute: string
  arguments: Record<string, unknown>
}

/** The commands that `vblk attach` sends for a disk, by its own word. */
async function commandsOf(attach: readonly string[]): Promise<Command[]> {
  const [file = '', ...args] = attach
  const { stdout } = await promisify(execFile)(file, [...args, '--dry-run', '--json'])
  return JSON.parse(stdout).result.commands
}

/** The same commands by raw QMP, from a client that is connected already: what QEMU itself takes. */
async function attachRaw(vm: Qemu, commands: readonly Command[]): Promise<Time> {
  const start = performance.now()
  for (const command of commands) await vm.qmp.execute(command.execute as 'stop', command.arguments as never)
  // The time is QEMU's and not this process's.
  return { wall: performance.now() - start, cpu: 0 }
}

async function removeRaw(vm: Qemu): Promise<void> {
  const deleted = vm.qmp.events(({ event }) => event === 'DEVICE_DELETED')
  try {
    await vm.qmp.execute('device_del', { id: 'd' })
    await deleted.next({ timeoutMs: 30_000 })
  } finally {
    deleted.close()
  }
  await vm.qmp.execute('blockdev-del', { 'node-name': 'vblk-d' })
}

/** What `vblk attach` takes beyond Node's own start and the same two commands by raw QMP. */
const attach: LocalCase = {
  ...{ name: 'attach-overhead', unit: 'ms', better: 'lower', goals: { ours: 150 } },
  measure: (dir) =>
    withVms(dir, { count: 1, monitors: 0 }, async ([vm]) => {
      if (!vm) throw new Error('no VM')
      const file = await (await withQemus()).makeImage(join(dir, 'attached.raw'))
      const command = [
        ...(await program()),
        'attach',
        vm.socket,
        file,
        '--id',
        'd',
        '--datapath',
        'userspace',
        '--quiet',
      ]
      const commands = await commandsOf(command)
      const clean = async (time: Time) => {
        await removeRaw(vm)
        return time
      }
      const works = {
        vblk: async () => clean(await timeProgram(command)),
        raw: async () => clean(await attachRaw(vm, commands)),
        node,
      }
      const measured = await interleave(works, 15)
      const [all, raw, bare] = [wall(measured.vblk), wall(measured.raw), wall(measured.node)]
      return {
        ours: all - bare - raw,
        peers: {},
        details: {
          rounds: 15,
          'attach ms': toTenths(all),
          'node-e-0 ms': toTenths(bare),
          'raw QMP ms': toTenths(raw),
          'CPU ms': toTenths(cpu(measured.vblk)),
          'CPU ms of node-e-0': toTenths(cpu(measured.node)),
        },
      }
    }),
}

/** The command line, as users start it, on this machine: ratios of interleaved runs. */
export const cliSuite: Suite = {
  name: 'cli',
  title: 'what the command line adds to Node and to QEMU',
  groups: [],
  localCases: [version, listOne, listHundred, attach],
}
