// SPDX-License-Identifier: GPL-2.0-or-later
import { randomBytes, randomUUID } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Lab } from './lab.ts'
import { ensure } from './setup/stage.ts'
import { sshImage, sshStage } from './setup/stages.ts'

const hosts = {
  one: { address: '192.0.2.1', mac: '52:54:00:00:02:01' },
  two: { address: '192.0.2.2', mac: '52:54:00:00:02:02' },
} as const

export type HostName = keyof typeof hosts

const names = ['one', 'two'] as const

/** The names by which each lab of a pair is found. */
export const pairNames = (pair: string): string[] => names.map((host) => `${pair}-${host}`)

const nqn = 'nqn.2014-08.org.nvmexpress:vblk-lab'

export interface TwoHostsOptions {
  /** Of the pair; one that `connect` finds if it is given. */
  name?: string
  /** Let them run on when this process ends. */
  keep?: boolean
  /** MiB of the disk that both see. */
  diskSize?: number
  report?: (line: string) => void
}

/**
 * Two machines L1 with a network between them and a disk that both see:
 *
 *   one 192.0.2.1 ══ two 192.0.2.2      each is root of the other by ssh, as `one` and `two`
 *    └ NVMe/TCP target of the disk      both have it by NVMe/TCP, `one` from itself
 *
 * Both come from one saved state, so they are made to differ afterwards: in name, machine id, boot id, addresses and keys. The
 * network exists only between the two processes that emulate them.
 */
export class TwoHosts {
  readonly one: Lab
  readonly two: Lab
  /** The disk's path on both. */
  readonly disk: string

  private constructor(one: Lab, two: Lab, disk: string) {
    this.one = one
    this.two = two
    this.disk = disk
  }

  /**
   * Starts both.
   *
   * @throws Error with the last words of a machine that does not come up
   */
  static async start(options: TwoHostsOptions = {}): Promise<TwoHosts> {
    const { name = `pair-${randomBytes(4).toString('hex')}`, keep = false, diskSize = 64, report = () => {} } = options
    await ensure([sshStage], report)
    const link = join(Lab.paths(`${name}-one`).dir, 'link.sock')
    const started = await Promise.allSettled(
      names.map((host) =>
        Lab.start({ name: `${name}-${host}`, keep, report, memory: memoryMib, args: devices(host, link) }),
      ),
    )
    const labs = started.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
    const [one, two] = labs
    try {
      const failed = started.find((each) => each.status === 'rejected')
      if (failed !== undefined) throw failed.reason
      if (one === undefined || two === undefined) throw new Error('one of two machines is missing')
      const uuid = randomUUID()
      await Promise.all([makeHost(one, 'one'), makeHost(two, 'two')])
      await Promise.all([exchangeKeys({ one, two }), exportDisk(one, uuid, diskSize)])
      await Promise.all([connectDisk(one, uuid), connectDisk(two, uuid)])
      return new TwoHosts(one, two, `/dev/disk/by-id/nvme-uuid.${uuid}`)
    } catch (error) {
      for (const lab of labs) await lab.stop()
      throw error
    }
  }

  /** Ends both machines. */
  async stop(): Promise<void> {
    await Promise.all([this.one.stop(), this.two.stop()])
  }

  /** The lines with which either kernel reported a fault since the last call. */
  async kernelWarnings(): Promise<string[]> {
    return (await Promise.all([this.one.kernelWarnings(), this.two.kernelWarnings()])).flat()
  }
}

/** As the lab's own, so that the saved state is the same. */
const memoryMib = 2560

/** What a host has beside the saved machine: the network device and the disk with ssh. */
function devices(host: HostName, link: string): string[] {
  const end = host === 'one' ? 'server=on' : 'server=off,reconnect-ms=100'
  return [
    ...['-netdev', `stream,id=link,addr.type=unix,addr.path=${link},${end}`],
    ...['-device', 'virtio-net-pci,netdev=link,romfile=,host_mtu=65520'],
    ...['-drive', `if=none,id=ssh,file=${sshImage},format=raw,readonly=on`],
    ...['-device', 'virtio-blk-pci,drive=ssh,serial=ssh'],
  ]
}

/** A script of hosts/, run on a host. */
async function script(lab: Lab, name: string, args: string[]): Promise<string> {
  const text = await readFile(join(import.meta.dirname, 'hosts', name), 'utf8')
  return await lab.check(['sh', '-c', text, name, ...args])
}

async function makeHost(lab: Lab, host: HostName): Promise<void> {
  const { address, mac } = hosts[host]
  await script(lab, 'join', [host, address, mac, randomBytes(16).toString('hex'), randomUUID()])
}

const keyNames = ['host-one', 'host-two', 'root-one', 'root-two'] as const

/** Each host gets a key of its own and one for root, made for this run, and trusts the other's; both serve ssh then. */
async function exchangeKeys(labs: Record<HostName, Lab>): Promise<void> {
  // All on one host: two that come from one saved state might draw the same random numbers.
  const generate =
    'umask 077; mkdir /run/keys; for k; do ssh-keygen -q -t ed25519 -N "" -C "$k" -f "/run/keys/$k"; done'
  await labs.one.check(['sh', '-euc', generate, 'sh', ...keyNames])
  const read = (file: string) => labs.one.check(['cat', `/run/keys/${file}`])
  const [keys, publics] = await Promise.all([
    Promise.all(keyNames.map(read)),
    Promise.all(keyNames.map((name) => read(`${name}.pub`))),
  ])
  await labs.one.check(['rm', '-r', '/run/keys'])
  const [hostOne = '', hostTwo = '', rootOne = '', rootTwo = ''] = publics
  const known = `one,${hosts.one.address} ${hostOne}two,${hosts.two.address} ${hostTwo}`
  const write = (lab: Lab, path: string, stdin: string) =>
    lab.check(['sh', '-euc', 'umask 077; cat >"$1"', 'sh', path], { stdin })
  await Promise.all(
    names.map(async (host) => {
      const lab = labs[host]
      await write(lab, '/etc/ssh/ssh_host_ed25519_key', keys[keyNames.indexOf(`host-${host}`)] ?? '')
      await write(lab, '/root/.ssh/id_ed25519', keys[keyNames.indexOf(`root-${host}`)] ?? '')
      await write(lab, '/root/.ssh/known_hosts', known)
      await write(lab, '/root/.ssh/authorized_keys', `${rootOne}${rootTwo}`)
      await lab.check(['/usr/sbin/sshd'])
    }),
  )
}

async function exportDisk(lab: Lab, uuid: string, size: number): Promise<void> {
  await lab.check(['modprobe', 'brd', 'rd_nr=1', `rd_size=${size * 1024}`])
  await script(lab, 'export-disk', ['/dev/ram0', hosts.one.address, nqn, uuid])
}

async function connectDisk(lab: Lab, uuid: string): Promise<void> {
  await script(lab, 'connect-disk', [hosts.one.address, nqn, uuid, randomUUID()])
}
