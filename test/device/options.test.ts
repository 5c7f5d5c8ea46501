// SPDX-License-Identifier: GPL-2.0-or-later
// Options of a drive and of the device that the kernel has to follow, and what it tells of its work.
import { afterAll, afterEach, beforeAll, describe, expect, jest, test } from '@jest/globals'
import type { Guest } from '../lab/guest.ts'
import { Lab } from '../lab/lab.ts'
import { Disk, type DiskOptions, Migration, makeImage, startGuest } from './disk.ts'

jest.setTimeout(300_000)

const MiB = 1 << 20

let lab: Lab
let guest: Guest
let image: string
let disk: Disk

beforeAll(async () => {
  lab = await Lab.start()
  image = await makeImage(lab, 'options')
  // As libvirt starts it.
  const args = ['-sandbox', 'on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny']
  guest = await startGuest(lab, { name: 'options', args })
  await guest.up()
})

afterAll(async () => {
  await guest?.kill()
  await lab?.stop()
})

afterEach(async () => {
  expect(await lab.kernelWarnings()).toEqual([])
})

async function plug(options: DiskOptions = {}): Promise<void> {
  disk = await Disk.plug(guest, image, options)
  await guest.awaitDisk('vda')
  await disk.onKernel()
}

async function unplug(): Promise<void> {
  await disk.unplug()
  await guest.awaitDisk('vda', false)
}

const write = (count: number) =>
  guest.check(['dd', 'if=/dev/urandom', 'of=/dev/vda', `bs=${MiB}`, `count=${count}`, 'oflag=direct', 'conv=notrunc'])
const flush = () => guest.check(['dd', 'if=/dev/null', 'of=/dev/vda', 'conv=notrunc,fsync'])
const read = () => guest.check(['dd', 'if=/dev/vda', 'of=/dev/null', 'bs=4096', 'count=64', 'iflag=direct'])
const allocated = async () => Number(await lab.check(['stat', '-c', '%b', image])) * 512

test.each([
  ['unmap', 'unmap', 0],
  ['ignore', 'unmap', MiB],
  ['unmap', 'ignore', MiB],
])('discard=%s on the raw node and %s on the file leaves what QEMU would', async (raw, file, left) => {
  await lab.check(['sh', '-c', 'truncate -s 0 "$1"; truncate -s 64M "$1"', 'sh', image])
  await plug({ raw: { discard: raw }, file: { discard: file } })
  await write(1)
  await guest.check(['blkdiscard', '-o', '0', '-l', String(MiB), '/dev/vda'])
  expect(await disk.state()).toMatchObject({ active: true, errors: 0 })
  expect(await allocated()).toBe(left)
  await unplug()
})

/** Flushes that L1's own disk, on which the images lie, has been sent. */
async function flushesOfHost(): Promise<number> {
  return Number((await lab.check(['cat', '/sys/block/vda/stat'])).trim().split(/\s+/)[15])
}

test.each([
  [true, 'ignores'],
  [false, 'obeys'],
])('with cache.no-flush=%s the kernel %s a flush', async (ignore) => {
  const cache = { direct: true, 'no-flush': ignore }
  await plug({ raw: { cache }, file: { cache } })
  await write(1)
  await lab.check(['sync'])
  const before = await flushesOfHost()
  await write(1)
  await flush()
  expect((await disk.state()).flushes).toBeGreaterThan(0)
  expect((await flushesOfHost()) > before).toBe(!ignore)
  await unplug()
})

interface BlockStats {
  qdev?: string
  stats: Record<string, number>
}

describe('statistics', () => {
  const stats = async () => {
    const all = (await guest.ask('query-blockstats')) as BlockStats[]
    const own = all.find(({ qdev }) => qdev?.includes('/disk/'))
    if (!own) throw new Error(`no statistics of the disk: ${JSON.stringify(all)}`)
    return own.stats as Record<string, number> & Record<'rd_bytes' | 'wr_bytes' | 'rd_operations', number>
  }

  beforeAll(async () => await plug())
  afterAll(unplug)

  test.each(['kernel', 'QEMU'])('of the drive count what was done by the %s, once', async (by) => {
    await disk.set('vhost-active', by === 'kernel')
    const before = await stats()
    const requests = (await disk.state()).requests
    await write(1)
    await read()
    await flush()
    const after = await stats()
    const grown = (name: string) => (after[name] ?? 0) - (before[name] ?? 0)
    expect(grown('wr_bytes')).toBe(MiB)
    // The guest's kernel reads a partition table when it likes to.
    expect(grown('rd_bytes')).toBeGreaterThanOrEqual(64 * 4096)
    expect(grown('rd_bytes')).toBeLessThan(64 * 4096 + MiB)
    expect(grown('rd_operations')).toBeGreaterThanOrEqual(64)
    expect(grown('flush_operations')).toBeGreaterThan(0)
    for (const time of ['rd_total_time_ns', 'wr_total_time_ns', 'flush_total_time_ns']) {
      expect(grown(time)).toBeGreaterThan(0)
    }
    expect((await disk.state()).requests > requests).toBe(by === 'kernel')
    expect(after.idle_time_ns).toBeLessThan(60e9)
  })

  test('survive a switch', async () => {
    await disk.set('vhost-active', true)
    await write(1)
    const before = await stats()
    await disk.set('vhost-active', false)
    await disk.set('vhost-active', true)
    const after = await stats()
    expect(after.wr_bytes).toBe(before.wr_bytes)
  })
})

test('a module without a dirty log serves, and is left for the time of a migration', async () => {
  await plug({ device: { 'x-dirty-log': false } })
  await guest.startLoad('/dev/vda', ['-t', '2', '-p', '20000'])
  const next = await startGuest(lab, { name: 'options-2', incoming: true })
  const nextDisk = await Disk.plug(next, image, { device: { 'x-dirty-log': false } })
  expect((await nextDisk.state()).reason).toBe("node 'raw0' is inactive")
  const migration = new Migration(guest, next)
  await guest.ask('migrate-set-parameters', { 'max-bandwidth': 4 * MiB })
  const begun = migration.begin()
  await disk.onUserspace('the VM is migrating, and the vhost_blk module has no dirty log')
  await guest.ask('migrate-set-parameters', { 'max-bandwidth': 1024 * MiB })
  await begun
  await migration.finish()
  await guest.kill()
  guest = next
  disk = nextDisk
  await disk.onKernel()
  expect(await guest.stopLoad()).toContain('vload: ok')
  await unplug()
})

test('a QEMU that waits for its VM tells what will stand against the kernel', async () => {
  const device = { packed: true }
  disk = await Disk.plug(guest, image, { device })
  await guest.awaitDisk('vda')
  await disk.onUserspace('the guest negotiated the packed ring')
  const next = await startGuest(lab, { name: 'options-3', incoming: true, args: ['-S'] })
  const late = [{ capability: 'late-block-activate', state: true }]
  await next.ask('migrate-set-capabilities', { capabilities: late })
  const nextDisk = await Disk.plug(next, image, { device, raw: { 'detect-zeroes': 'on' } })
  expect((await nextDisk.state()).reason).toBe("node 'raw0' detects zeroes")
  const migration = new Migration(guest, next)
  await migration.begin()
  await migration.complete()
  expect((await nextDisk.state()).reason).toContain('the guest negotiated the packed ring')
  await next.ask('cont')
  await guest.kill()
  guest = next
  disk = nextDisk
  await disk.onUserspace('the guest negotiated the packed ring')
  await unplug()
})

/**
 * Starts a QEMU of an unprivileged user that has descriptors of the kernel's device and of the image, and asks it. What goes into
 * a set is closed under its own number.
 */
const withDescriptors = `
object=$(echo /opt/vblk/native/qemu/objects/*/vhost-blk.so)
exec 5<>/dev/vhost-blk 6<>/dev/vhost-blk 7<>/dev/vhost-blk 8<>"$1" 9<>/dev/kvm
set_() { printf '{"execute":"qom-set","arguments":{"path":"/machine/peripheral/d","property":"%s","value":%s},"id":"%s"}\n' "$@"; }
state() { printf '{"execute":"qom-get","arguments":{"path":"/machine/peripheral/d","property":"vhost-state"},"id":"%s"}\n' "$1"; }
{
  echo '{"execute":"qmp_capabilities"}'
  state first
  set_ vhost-active false off
  if [ "$3" ]; then
    set_ vhostfds '""' closed
    state without
    set_ vhost-active true 'without a descriptor'
    set_ vhostfds '"'"$3"'"' given
  else
    state without
  fi
  set_ vhost-active true on
  state again
  echo '{"execute":"quit"}'
} |
  setpriv --reuid=65534 --regid=65534 --clear-groups qemu-system-x86_64 -M q35 -accel kvm,device=/dev/fdset/3 \
    -nodefaults -display none -S -sandbox on -plugin "file=$object" -qmp stdio \
    -add-fd fd=7,set=1 -add-fd fd=8,set=2 -add-fd fd=9,set=3 \
    -blockdev driver=file,node-name=f,filename=/dev/fdset/2 -blockdev driver=raw,node-name=r,file=f \
    -device "vhost-blk-pci,id=d,drive=r,vhost=on,$2"`

test.each([
  ['a set', 'vhostdev=/dev/fdset/1', ''],
  ['its number', 'vhostfds=6', '5'],
])(
  'an unprivileged QEMU in its sandbox takes the descriptor by %s, closes it, and takes it or another',
  async (_by, property, other) => {
    const answer = await lab.check(['sh', '-c', withDescriptors, 'sh', image, property, other])
    const replies = answer
      .split('\n')
      .filter((line) => line.includes('"id"'))
      .map((line) => JSON.parse(line) as { id: string; return?: unknown; error?: { desc: string } })
    const reply = (id: string) => replies.find((one) => one.id === id)
    const open = { active: false, fds: expect.stringMatching(/^\d+$/) }
    expect(replies.filter(({ error }) => error)).toEqual(
      other ? [expect.objectContaining({ id: 'without a descriptor' })] : [],
    )
    expect(reply('first')?.return).toMatchObject(open)
    expect(reply('without')?.return).toMatchObject({ fds: '', reason: 'vhost-active was set to false' })
    expect(reply('again')?.return).toMatchObject(open)
  },
)
