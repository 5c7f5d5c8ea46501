// SPDX-License-Identifier: GPL-2.0-or-later
import { setTimeout as sleep } from 'node:timers/promises'
import { kernelFaults } from './kernel-log.ts'
import type { ExecOptions, ExecResult, Lab } from './lab.ts'
import { Monitor, type QmpEvent } from './monitor.ts'
import { TimeoutError } from './timeout-error.ts'

export interface GuestOptions {
  name: string
  /** Wait for an incoming migration instead of booting. */
  incoming?: boolean
  /** Load the vhost-blk device (`vblk device args`); true unless told otherwise. */
  device?: boolean
  /** MiB */
  memory?: number
  smp?: number
  /** Root ports free for hot-plug. */
  ports?: number
  /** Further arguments for QEMU. */
  args?: string[]
  /** Boot it; otherwise an ordinary guest is restored from the state that was saved right after a boot. */
  boot?: boolean
  /** A socket in L1 whose presence means that QEMU has started; that of the tests' own monitor unless given. */
  awaits?: string
}

/** Where L1 keeps a booted guest, saved, so that tests need not wait for one each. */
const savedGuest = '/var/lib/vblk-lab/guest.state'

const ordinary = { memory: 192, smp: 1, ports: 3 }

/** Whether a guest with these options is the machine that was saved: the same devices before anything is hot-plugged. */
function isOrdinary(options: GuestOptions): boolean {
  const { memory = ordinary.memory, smp = ordinary.smp, ports = ordinary.ports, incoming, boot, args = [] } = options
  const same = memory === ordinary.memory && smp === ordinary.smp && ports === ordinary.ports
  const adds = args.some((argument) =>
    ['-device', '-drive', '-blockdev', '-object', '-S', '-append'].includes(argument),
  )
  return same && !adds && !incoming && !boot
}

/** Boots an ordinary guest and saves it; for the preparation of L1's own saved state. */
export async function saveGuest(lab: Lab): Promise<void> {
  await lab.check(['mkdir', '-p', '/var/lib/vblk-lab'])
  const guest = await Guest.start(lab, { name: 'saved', device: false, boot: true })
  await guest.up()
  await guest.ask('stop')
  await guest.ask('migrate', { uri: `file:${savedGuest}` })
  await guest.until('query-migrate', (reply) => (reply as { status?: string }).status === 'completed')
  await guest.kill()
}

/** A guest (L2) in the lab: the distribution's QEMU with KVM, all its files in one private folder of L1. */
export class Guest {
  readonly lab: Lab
  readonly name: string
  readonly #dir: string
  #monitor: Monitor | undefined

  private constructor(lab: Lab, name: string) {
    this.lab = lab
    this.name = name
    this.#dir = `/run/guests/${name}`
  }

  /** The monitor socket for vblk, in L1. */
  get qmp(): string {
    return `${this.#dir}/qmp.sock`
  }

  /** A second monitor for the tests' own questions, so that they never meet vblk on the first. */
  get spare(): string {
    return `${this.#dir}/spare.sock`
  }

  /**
   * Starts QEMU and returns when its monitors listen; `up` waits for the guest itself.
   *
   * @throws Error with QEMU's own words if it exits
   */
  static async start(lab: Lab, options: GuestOptions): Promise<Guest> {
    const guest = new Guest(lab, options.name)
    const dir = guest.#dir
    await lab.check(['install', '-d', '-m', '0700', '/run/guests', dir])
    const { memory, smp, ports } = { ...ordinary, ...options }
    const restore = isOrdinary(options) && (await lab.exec(['test', '-e', savedGuest])).exitCode === 0
    const device = (options.device ?? true) ? (await lab.check(['vblk', 'device', 'args'])).trim().split(/\s+/) : []
    const args = [
      '-name',
      options.name,
      '-machine',
      // Without a HPET: QEMU's emulation of it wakes up hundreds of times a second, which is much for an emulated host.
      'q35,hpet=off',
      '-accel',
      'kvm',
      '-cpu',
      'host',
      '-smp',
      String(smp),
      '-m',
      `${memory}M`,
      '-nodefaults',
      '-no-user-config',
      '-display',
      'none',
      '-kernel',
      '/opt/vblk/guest/vmlinuz',
      '-initrd',
      '/opt/vblk/guest/initrd',
      '-append',
      'console=ttyS0 loglevel=6 panic=-1 mitigations=off',
      '-serial',
      `file:${dir}/console.log`,
      '-device',
      'virtio-serial-pci',
      '-chardev',
      `socket,id=agent,path=${dir}/agent.sock,server=on,wait=off`,
      '-device',
      'virtserialport,chardev=agent,name=org.vblk.lab',
      '-chardev',
      `socket,id=qga,path=${dir}/qga.sock,server=on,wait=off`,
      '-device',
      'virtserialport,chardev=qga,name=org.qemu.guest_agent.0',
      '-qmp',
      `unix:${guest.qmp},server=on,wait=off`,
      '-qmp',
      `unix:${guest.spare},server=on,wait=off`,
      ...Array.from({ length: ports }, (_, i) => [
        '-device',
        `pcie-root-port,id=port${i},chassis=${i + 1},slot=${i + 1}`,
      ]),
      ...device,
      ...(options.incoming || restore ? ['-incoming', 'defer'] : []),
      ...(options.args ?? []),
    ].flat()
    const start = 'dir=$1; shift; setsid "$@" >"$dir/qemu.log" 2>&1 </dev/null & echo $! >"$dir/pid"'
    await lab.check(['sh', '-c', start, 'sh', dir, 'qemu-system-x86_64', ...args])
    const ready =
      'for i in $(seq 600); do [ -S "$1" ] && exit 0; kill -0 "$(cat "$2")" || exit 1; sleep 0.1; done; exit 1'
    const up = await lab.exec(['sh', '-c', ready, 'sh', options.awaits ?? guest.spare, `${dir}/pid`])
    if (up.exitCode !== 0) throw new Error(`QEMU of guest ${options.name} did not start: ${await guest.qemuLog()}`)
    if (restore) {
      await guest.ask('migrate-incoming', { uri: `file:${savedGuest}` })
      await guest.until('query-migrate', (reply) => (reply as { status?: string }).status === 'completed')
      await guest.ask('cont')
    }
    return guest
  }

  /**
   * Waits until the guest's system answers.
   *
   * @throws TimeoutError with console and log if it doesn't
   */
  async up(timeoutMs = 120_000): Promise<void> {
    const seconds = Math.ceil(timeoutMs / 1000)
    const result = await this.#run(['true'], seconds, { timeoutMs: timeoutMs + 5000 })
    if (result.exitCode !== 0)
      throw new TimeoutError(
        `guest ${this.name} did not come up: ${result.stderr}${await this.console()}${await this.qemuLog()}`,
      )
  }

  #run(argv: string[], answerSeconds: number, options: ExecOptions): Promise<ExecResult> {
    return this.lab.exec(['lab-run', `${this.#dir}/agent.sock`, '-t', String(answerSeconds), '--', ...argv], options)
  }

  /** Runs a command in the guest. */
  exec(argv: string[], options: ExecOptions = {}): Promise<ExecResult> {
    return this.#run(argv, 20, options)
  }

  /** Runs a command in the guest that must succeed; returns its output. */
  async check(argv: string[], options: ExecOptions = {}): Promise<string> {
    const { exitCode, stdout, stderr } = await this.exec(argv, options)
    if (exitCode !== 0) {
      const evidence = `${await this.console()}\n${await this.qemuLog()}`
      throw new Error(`in guest ${this.name}: ${argv.join(' ')}: exit ${exitCode}\n${stdout}${stderr}\n${evidence}`)
    }
    return stdout
  }

  /** Waits until a block device has appeared in the guest, or gone. */
  async awaitDisk(name: string, present = true): Promise<void> {
    const loop = `for i in $(seq 200); do [ ${present ? '' : '!'} -e "/dev/$1" ] && exit 0; sleep 0.1; done; exit 1`
    await this.check(['sh', '-c', loop, 'sh', name], { timeoutMs: 60_000 })
  }

  /** Starts the verifying load on a disk; it outlives this connection, and the guest's migration. */
  async startLoad(device: string, args: string[] = []): Promise<void> {
    await this.check([
      'sh',
      '-c',
      'setsid vload "$@" >/run/vload.log 2>&1 </dev/null & echo $! >/run/vload.pid',
      'sh',
      device,
      ...args,
    ])
    await this.#awaitLoad('running')
  }

  /** Ends the load and returns its verdict, a line that begins with "vload: ok" if all data was as written. */
  async stopLoad(): Promise<string> {
    await this.check(['sh', '-c', 'kill -TERM "$(cat /run/vload.pid)"'])
    await this.#awaitLoad('errors=')
    const log = (await this.check(['cat', '/run/vload.log'])).trim().split('\n')
    return log.at(-1) ?? ''
  }

  /** Ends the load without a verdict, as when its disk is gone. */
  async killLoad(): Promise<void> {
    await this.check(['sh', '-c', 'kill -KILL "$(cat /run/vload.pid)"'])
  }

  async #awaitLoad(word: string): Promise<void> {
    const loop =
      'for i in $(seq 500); do grep -q "$1" /run/vload.log && exit 0; kill -0 "$(cat /run/vload.pid)" || break; sleep 0.2; done; grep "$1" /run/vload.log || { cat /run/vload.log; exit 1; }'
    await this.check(['sh', '-c', loop, 'sh', word], { timeoutMs: 150_000 })
  }

  /** Asks QEMU on the tests' own monitor. */
  async ask(command: string, args: Record<string, unknown> = {}): Promise<unknown> {
    this.#monitor ??= new Monitor(this.lab, this.spare)
    return await this.#monitor.ask(command, args)
  }

  /** The events of a name that the tests' own monitor has told so far, oldest first; it listens from the first `ask` on. */
  events(name: string): QmpEvent[] {
    return this.#monitor?.events.filter(({ event }) => event === name) ?? []
  }

  /**
   * Asks until the answer is as wanted.
   *
   * @throws Error with the last answer if that takes longer than a minute
   */
  async until(command: string, wanted: (reply: unknown) => boolean): Promise<void> {
    let reply: unknown
    for (const end = Date.now() + 60_000; Date.now() < end; await sleep(200)) {
      reply = await this.ask(command)
      if (wanted(reply)) return
    }
    throw new Error(`guest ${this.name}: ${command} still answers ${JSON.stringify(reply)}`)
  }

  async console(): Promise<string> {
    return (await this.lab.exec(['cat', `${this.#dir}/console.log`])).stdout
  }

  async qemuLog(): Promise<string> {
    return (await this.lab.exec(['cat', `${this.#dir}/qemu.log`])).stdout.trim()
  }

  /** Lines with which the guest's kernel reported a fault. */
  async kernelWarnings(): Promise<string[]> {
    return kernelFaults(await this.console())
  }

  #signal(name: string): Promise<ExecResult> {
    return this.lab.exec(['sh', '-c', 'kill -s "$1" "$(cat "$2")"', 'sh', name, `${this.#dir}/pid`])
  }

  /** Whether its QEMU process lives. */
  async alive(): Promise<boolean> {
    return (await this.#signal('0')).exitCode === 0
  }

  /** Its QEMU's process id in L1. */
  async pid(): Promise<number> {
    return Number(await this.lab.check(['cat', `${this.#dir}/pid`]))
  }

  /** Asks QEMU by SIGTERM to end, as a host's service manager does. */
  async terminate(): Promise<void> {
    await this.#signal('TERM')
  }

  /** Kills QEMU and waits for its end. */
  async kill(): Promise<void> {
    await this.#signal('KILL')
    for (let i = 0; i < 1000 && (await this.alive()); i++) await sleep(50)
  }
}
