// SPDX-License-Identifier: GPL-2.0-or-later
// The main job, on real parts: attach a disk to a running guest, carry it across a live migration, detach it.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Progress } from '../../src/ui/progress.ts'
import { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { vblk } from '../lab/vblk.ts'

export type Datapath = 'kernel' | 'userspace'
type WriteCache = 'writeback' | 'writethrough'

export interface DemoResult {
  qemu: { version: string }
  kernel: { release: string }
  attach: { datapath: string; kernelRequests: number }
  migration: {
    /** From the source's STOP event to the destination's RESUME event, under emulation. */
    downtimeMs: number
    datapath: { before: string; after: string }
    backendStoppedBeforeSave: boolean
    kernelRequestsAfter: number
    writeCache: { original: WriteCache; before: WriteCache; after: WriteCache }
  }
  /** Of the half of the disk that the load leaves alone: read by the guest on each side, and from the image at the end. */
  sha256: { guestSource: string; guestDestination: string; image: string }
  /** The verdict of the verifying load that ran across the migration on the other half. */
  load: string
  /** Faults reported by the kernels of L1 and of the guest. */
  kernelWarnings: number
}

/** Something that the demo shows isn't so. */
export class DemoError extends Error {
  override name = 'DemoError'
}

const image = '/var/lib/vblk-demo/disk.raw'
const mebibytes = 32
const hashed = mebibytes / 2

interface ListedDisk {
  id: string
  datapath: string
  kernel: { requests: number } | null
  writeCache: { original: WriteCache; current: WriteCache }
}

interface Migrated {
  downtimeMs: number
  backendStoppedBeforeSave: boolean
  disks: { id: string; datapath: { before: string; after: string } }[]
}

function expect(condition: boolean, message: string): void {
  if (!condition) throw new DemoError(message)
}

async function listed(lab: Lab, guest: Guest): Promise<ListedDisk> {
  const { disks } = await vblk<{ disks: ListedDisk[] }>(lab, ['list', guest.qmp])
  const disk = disks.find(({ id }) => id === 'data')
  if (!disk) throw new DemoError(`'vblk list' does not show the disk on guest ${guest.name}`)
  return disk
}

/** Requests that the kernel has completed, by its own count. */
const kernelRequests = (disk: ListedDisk) => disk.kernel?.requests ?? 0

async function guestCache(guest: Guest): Promise<WriteCache> {
  const type = (await guest.check(['cat', '/sys/block/vda/cache_type'])).trim()
  return type === 'write through' ? 'writethrough' : 'writeback'
}

/** What QEMU says the cache is; it must be what the guest sees. */
async function agreedCache(lab: Lab, guest: Guest): Promise<WriteCache> {
  const { current } = (await listed(lab, guest)).writeCache
  const seen = await guestCache(guest)
  expect(current === seen, `write cache: QEMU says ${current}, the guest sees ${seen}`)
  return current
}

const hashScript = 'dd if="$1" bs=1M count="$2" iflag=direct 2>/dev/null | sha256sum | cut -d" " -f1'
const hashArgv = (path: string) => ['sh', '-c', hashScript, 'sh', path, String(hashed)]

/**
 * Runs the demo.
 *
 * @throws DemoError if what it shows isn't so, with the evidence
 */
export async function runDemo(datapath: Datapath, progress: Progress): Promise<DemoResult> {
  const lab = await progress.step('start the lab: a host with KVM, inside this machine', () =>
    Lab.start({ report: (line) => progress.info(line) }),
  )
  try {
    return await demonstrate(lab, datapath, progress)
  } catch (error) {
    const log = (await lab.kernelLog()).split('\n').slice(-40).join('\n')
    throw new DemoError(`${(error as Error).message}\n--- kernel log of L1, its end ---\n${log}`, { cause: error })
  } finally {
    await lab.stop()
  }
}

async function demonstrate(lab: Lab, datapath: Datapath, progress: Progress): Promise<DemoResult> {
  const step = progress.step.bind(progress)

  await step('load the vhost_blk module and check the host (vblk module load, vblk doctor)', async () => {
    await vblk(lab, ['module', 'load'])
    await vblk(lab, ['doctor'])
    await lab.check(['install', '-d', '-m', '0700', '/var/lib/vblk-demo'])
    await lab.check(['truncate', '-s', `${mebibytes}M`, image])
  })
  const kernelRelease = (await lab.check(['uname', '-r'])).trim()

  const a = await step("start guest A on the distribution's QEMU", async () => {
    const guest = await Guest.start(lab, { name: 'A' })
    await guest.up()
    return guest
  })
  const { qemu } = (await a.ask('query-version')) as { qemu: { major: number; minor: number; micro: number } }

  await step('attach a raw disk to the running guest (vblk attach)', async () => {
    await vblk(lab, ['attach', a.qmp, image, '--id', 'data', '--cache', 'none', '--datapath', datapath])
    await a.awaitDisk('vda')
  })

  const guestSource = await step(
    `write ${mebibytes} MiB of random data in the guest, and hash half of it`,
    async () => {
      await a.check(['dd', 'if=/dev/urandom', 'of=/dev/vda', 'bs=1M', `count=${mebibytes}`, 'conv=fsync'])
      return (await a.check(hashArgv('/dev/vda'))).trim()
    },
  )
  const attached = await listed(lab, a)
  expect(attached.datapath === datapath, `the disk is served by ${attached.datapath} instead of ${datapath}`)
  const requests = kernelRequests(attached)
  expect(
    requests > 0 === (datapath === 'kernel'),
    `the kernel counted ${requests} requests on the ${datapath} datapath`,
  )

  const original = attached.writeCache.original
  await step('the guest turns its write cache off, and a verifying load starts', async () => {
    await a.check(['sh', '-c', 'echo "write through" >/sys/block/vda/cache_type'])
    await a.startLoad('/dev/vda', ['-o', String(hashed * 1024 * 1024), '-t', '2', '-p', '10000'])
  })
  const before = await agreedCache(lab, a)

  const b = await step('start QEMU B, waiting for a migration', () => Guest.start(lab, { name: 'B', incoming: true }))
  const migrated = await step('move the running guest from A to B under the load (vblk migrate)', () =>
    vblk<Migrated>(lab, ['migrate', a.qmp, b.qmp]),
  )
  const moved = migrated.disks.find(({ id }) => id === 'data')
  if (!moved) throw new DemoError("'vblk migrate' does not report the disk")

  const after = await agreedCache(lab, b)
  const guestDestination = await step('read back on B, while the load goes on', async () => {
    await b.check(['sh', '-c', 'echo 3 >/proc/sys/vm/drop_caches'])
    return (await b.check(hashArgv('/dev/vda'))).trim()
  })
  await sleep(1000)
  const load = await step('end the load: every block must hold what was written last', () => b.stopLoad())
  expect(load.startsWith('vload: ok '), `the verifying load: ${load}`)
  const kernelRequestsAfter = kernelRequests(await listed(lab, b))

  await step('detach the disk (vblk detach)', async () => {
    await vblk(lab, ['detach', b.qmp, 'data'])
    await b.awaitDisk('vda', false)
  })
  const imageHash = (await lab.check(hashArgv(image))).trim()
  const warnings = [...(await lab.kernelWarnings()), ...(await b.kernelWarnings()), ...(await a.kernelWarnings())]
  expect(warnings.length === 0, `kernel warnings:\n${warnings.join('\n')}`)

  const sha256 = { guestSource, guestDestination, image: imageHash }
  expect(
    /^[0-9a-f]{64}$/.test(imageHash) && guestSource === imageHash && guestDestination === imageHash,
    `the data differs: ${JSON.stringify(sha256)}`,
  )
  expect(before === 'writethrough' && after === before, `write cache ${before} on A became ${after} on B`)
  expect(migrated.backendStoppedBeforeSave, 'a backend ran while device state was saved')
  expect(moved.datapath.after === datapath, `after the migration ${moved.datapath.after} serves the disk`)
  expect(
    kernelRequestsAfter > 0 === (datapath === 'kernel'),
    `after the migration the kernel counted ${kernelRequestsAfter} requests on the ${datapath} datapath`,
  )

  return {
    qemu: { version: `${qemu.major}.${qemu.minor}.${qemu.micro}` },
    kernel: { release: kernelRelease },
    attach: { datapath: attached.datapath, kernelRequests: requests },
    migration: {
      downtimeMs: migrated.downtimeMs,
      datapath: moved.datapath,
      backendStoppedBeforeSave: migrated.backendStoppedBeforeSave,
      kernelRequestsAfter,
      writeCache: { original, before, after },
    },
    sha256,
    load,
    kernelWarnings: warnings.length,
  }
}
