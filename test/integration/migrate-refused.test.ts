// SPDX-License-Identifier: GPL-2.0-or-later
// Refusals: one clear line, the right exit code, and nothing changed on either side.

import { rename } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, jest, test } from '@jest/globals'
import { attachDisk, Bench, type Full, firmwareDrives, fullState, migrate } from './migration.ts'
import { type Qemu, type QemuOptions, vblk } from './qemu.ts'

jest.setTimeout(120_000)

let bench: Bench
let image: string
/** For all tests, since none may change it. */
let home: Qemu
let source: Qemu
let before: Full

beforeAll(async () => {
  bench = await Bench.create()
  image = await bench.image('disk.raw', 2 << 20)
  home = await bench.source(image)
})
beforeEach(async () => {
  source = home
  before = await fullState(source)
})
afterEach(async () => {
  expect(await fullState(source)).toEqual(before)
  expect(await bench.leftovers()).toEqual([])
  await bench.stopAll(home)
})
afterAll(() => bench?.remove())

interface Expected {
  exitCode: number
  code: string
  message: RegExp
}

/** Migrates to a destination that is then found as it was, and expects the refusal. */
async function expectRefusal(
  destination: Qemu,
  { exitCode, code, message }: Expected,
  ...options: string[]
): Promise<void> {
  const there = await fullState(destination)
  const { envelope, ...outcome } = await migrate(source.socket, destination.socket, ...options)
  expect(envelope).toMatchObject({ ok: false, error: { exitCode, code, message: expect.stringMatching(message) } })
  expect(outcome.exitCode).toBe(exitCode)
  expect(envelope.error?.message).not.toContain('\n')
  expect(await fullState(destination)).toEqual(there)
}

describe('a destination that', () => {
  const state = (message: RegExp) => ({ exitCode: 5, code: 'DESTINATION_NOT_INCOMING', message })

  test('runs', async () => {
    await expectRefusal(await bench.start(), state(/does not wait for a migration: a VM runs in it$/))
  })

  test('is stopped', async () => {
    const destination = await bench.start()
    await destination.qmp.execute('stop')
    await expectRefusal(destination, state(/: a stopped VM is in it$/))
  })

  test('was started with -S and without -incoming', async () => {
    await expectRefusal(await bench.start({ args: ['-S'] }), state(/: a VM that was never started is in it/))
  })

  test('listens already', async () => {
    const destination = await bench.start({ args: ['-incoming', `unix:${join(bench.dir, 'listening.sock')}`] })
    await expectRefusal(destination, {
      exitCode: 5,
      code: 'DESTINATION_IN_USE',
      message: /already listens for a migration or takes one \(setup\)$/,
    })
  })

  test('is not there', async () => {
    const nowhere = join(bench.dir, 'nowhere.sock')
    const { exitCode, envelope } = await migrate(source.socket, nowhere)
    expect([exitCode, envelope.error?.code]).toEqual([3, 'NO_SUCH_SOCKET'])
    expect(envelope.error?.message).toBe(`${nowhere}: no such socket`)
  })

  test('is the source', async () => {
    const { exitCode, envelope } = await migrate(source.socket, `${bench.dir}/./${source.socket.split('/').at(-1)}`)
    expect([exitCode, envelope.error?.code]).toEqual([2, 'SAME_VM'])
  })

  test('is busy with another client', async () => {
    const destination = await bench.incoming()
    const { exitCode, envelope } = await migrate(source.socket, `${destination.socket}.test`)
    expect([exitCode, envelope.error?.code]).toEqual([9, 'VM_BUSY'])
  })

  test('would have QEMU serve a disk that the kernel must serve', async () => {
    const message = /^the kernel would not serve d1 on the destination: the VM runs without KVM$/
    const refusal = { exitCode: 5, code: 'NO_KERNEL_DATAPATH', message }
    await expectRefusal(await bench.incoming(), refusal, '--datapath', 'kernel')
    const nodes = `driver=raw,node-name=n,file.driver=file,file.filename=${image}`
    const device = 'vhost-blk-pci,id=d1,drive=n,bus=rp1'
    const args = ['-blockdev', nodes, '-device', device]
    await expectRefusal(await bench.incoming({ args }), refusal, '--datapath', 'kernel')
  })

  test('has no vhost-blk device', async () => {
    await expectRefusal(await bench.incoming({ plugin: false }), {
      exitCode: 4,
      code: 'NO_VHOST_BLK_DEVICE',
      message: /has no device type vhost-blk-pci$/,
    })
  })

  test('is another machine', async () => {
    await expectRefusal(await bench.incoming({ args: ['-machine', 'pc-q35-9.2'] }), {
      exitCode: 5,
      code: 'DESTINATION_DIFFERS',
      message: /does not fit: its machine is pc-q35-9\.2, not pc-q35-10\.0$/,
    })
  })

  test('has another migration capability on', async () => {
    const destination = await bench.incoming()
    const capabilities = [{ capability: 'multifd' as const, state: true }]
    await destination.qmp.execute('migrate-set-capabilities', { capabilities })
    await expectRefusal(destination, {
      exitCode: 5,
      code: 'DESTINATION_DIFFERS',
      message: /capability multifd is on at the destination only$/,
    })
  })

  test('could be sent into postcopy by another monitor', async () => {
    source = await bench.source(await bench.image('postcopy.raw', 1 << 20))
    const destination = await bench.incoming()
    const capabilities = [{ capability: 'postcopy-ram' as const, state: true }]
    for (const { qmp } of [source, destination]) await qmp.execute('migrate-set-capabilities', { capabilities })
    before = await fullState(source)
    await expectRefusal(destination, {
      exitCode: 5,
      code: 'DESTINATION_DIFFERS',
      message: /capability postcopy-ram is on, with which there would be no rollback$/,
    })
  })

  test('lacks the iothread of a disk', async () => {
    const other = await bench.image('other.raw', 1 << 20)
    source = await bench.source(other, ['--iothread', 'io1'], ['-object', 'iothread,id=io1'])
    before = await fullState(source)
    await expectRefusal(await bench.incoming(), {
      exitCode: 5,
      code: 'DESTINATION_DIFFERS',
      message: /does not fit: it has no iothread io1$/,
    })
  })
})

test('all that stands in the way is told at once, by migrate and by its preflight', async () => {
  const destination = await bench.incoming({ plugin: false, args: ['-machine', 'pc-q35-9.2'] })
  const capabilities = [{ capability: 'multifd' as const, state: true }]
  await destination.qmp.execute('migrate-set-capabilities', { capabilities })
  const all = {
    exitCode: 5,
    code: 'NOT_MIGRATABLE',
    message: /^3 things stand in the way: .*9\.2.*; .*multifd.*; .*vhost-blk/,
  }
  await expectRefusal(destination, all)
  const pair = [source.socket, destination.socket]
  const { exitCode, envelope } = await vblk(['migrate', 'preflight', ...pair])
  expect(exitCode).toBe(5)
  expect(envelope.error).toMatchObject({
    code: 'NOT_MIGRATABLE',
    details: {
      findings: [
        { code: 'DESTINATION_DIFFERS', exitCode: 5 },
        { code: 'DESTINATION_DIFFERS', exitCode: 5 },
        { code: 'NO_VHOST_BLK_DEVICE', exitCode: 4, hint: expect.any(String) },
      ],
    },
  })
  const { stdout, stderr } = await vblk(['migrate', 'preflight', ...pair], { text: true })
  expect(stdout.trimEnd().split('\n')).toHaveLength(3)
  expect(stderr).toMatch(/^Error: 3 things stand in the way: /m)
})

describe('a disk of the destination that', () => {
  const withDisk = (file: string, device = '', node = ''): QemuOptions => ({
    args: [
      '-blockdev',
      `driver=raw,node-name=vblk-d1,file.driver=file,file.filename=${file}${node}`,
      '-device',
      `vhost-blk-pci,id=d1,bus=rp1,drive=vblk-d1${device}`,
    ],
  })
  const differs = (message: RegExp) => ({ exitCode: 5, code: 'DISK_DIFFERS', message })

  test('is smaller', async () => {
    const small = await bench.image('small.raw', 1 << 20)
    await expectRefusal(
      await bench.incoming(withDisk(small)),
      differs(/^d1 differs on the destination: size is 1048576 bytes, not 2097152 bytes; file is .*small\.raw, not /),
    )
  })

  test('is read-only', async () => {
    await expectRefusal(
      await bench.incoming(withDisk(image, '', ',read-only=on')),
      differs(/^d1 differs on the destination: read-only is yes, not no$/),
    )
  })

  test('has another identity and other features', async () => {
    await expectRefusal(
      await bench.incoming(withDisk(image, ',serial=other,discard=off,write-cache=off')),
      differs(
        /: serial is other, not none; the original write cache is writethrough, not writeback; discard is false, /,
      ),
    )
  })

  test('would lose the write cache', async () => {
    const node = `driver=raw,node-name=n,file.driver=file,file.filename=${await bench.image('firmware.raw')}`
    const args = (type: string) => ['-blockdev', node, '-device', `${type},id=d0,drive=n,bus=rp1`]
    source = await bench.start({ args: args('vhost-blk-pci') })
    await firmwareDrives(source, 'd0')
    before = await fullState(source)
    await expectRefusal(await bench.incoming({ args: args('virtio-blk-pci') }), {
      exitCode: 5,
      code: 'WRITE_CACHE_LOST',
      message: /^d0: the guest's write cache is writethrough, and the destination's device would turn it to writeback$/,
    })
  })

  test('is in another slot', async () => {
    const options = withDisk(image)
    await expectRefusal(
      await bench.incoming({ args: options.args?.map((arg) => arg.replace('rp1', 'rp2')) ?? [] }),
      differs(/: bus is rp2, not rp1$/),
    )
  })

  test('the source has not', async () => {
    const extra = await bench.image('extra.raw')
    const { args = [] } = withDisk(extra)
    const destination = await bench.incoming({ args: args.map((arg) => arg.replaceAll('d1', 'd9')) })
    await expectRefusal(destination, {
      exitCode: 5,
      code: 'DESTINATION_DIFFERS',
      message: /it has d9, which the source has not$/,
    })
  })
})

describe('a disk that cannot be made on the destination', () => {
  test('because its file is not seen there: what was made already is removed', async () => {
    source = await bench.source(await bench.image('first.raw'))
    const second = await bench.image('second.raw')
    await attachDisk(source, 'd2', second)
    before = await fullState(source)
    await rename(second, `${second}.away`)
    for (const hotplug of ['acpi', 'native'] as const) {
      await expectRefusal(await bench.incoming({ hotplug }), {
        exitCode: 3,
        code: 'SOURCE_NOT_FOUND',
        message: /^d2 can't be made on the destination: QEMU does not see .*second\.raw: .*No such file or directory/,
      })
    }
  })

  test('because its slot is taken', async () => {
    await expectRefusal(await bench.incoming({ args: ['-device', 'virtio-rng-pci,bus=rp1'] }), {
      exitCode: 5,
      code: 'REFUSED_BY_QEMU',
      message: /^d1 can't be made on the destination: .* slot 0 function 0 not available .* in use by virtio-rng-pci/,
    })
  })

  test('because vblk did not attach it', async () => {
    const node = `driver=raw,node-name=n,file.driver=file,file.filename=${await bench.image('own.raw')}`
    source = await bench.start({ args: ['-blockdev', node, '-device', 'vhost-blk-pci,id=own,drive=n,bus=rp1'] })
    before = await fullState(source)
    await expectRefusal(await bench.incoming(), {
      exitCode: 5,
      code: 'DESTINATION_LACKS_DISK',
      message: /^the destination lacks own \(vhost-blk-pci\), which vblk did not attach and can't copy$/,
    })
  })
})

describe('a source that', () => {
  test('has never run', async () => {
    source = await bench.start({ args: ['-S'] })
    before = await fullState(source)
    await expectRefusal(await bench.incoming(), {
      exitCode: 5,
      code: 'SOURCE_NOT_MIGRATABLE',
      message: /state prelaunch: it has not been started yet$/,
    })
  })

  test('waits for a migration itself', async () => {
    source = await bench.incoming()
    before = await fullState(source)
    await expectRefusal(await bench.start(), {
      exitCode: 5,
      code: 'NOT_MIGRATABLE',
      message: /: it waits for a migration itself; are source and destination swapped\?; .*: a VM runs in it$/,
    })
  })

  test('is being migrated', async () => {
    const { here, there } = await bench.muchMemory()
    source = await bench.start({ args: here })
    const other = await bench.incoming({ args: there })
    const uri = `unix:${join(bench.dir, 'other.sock')}`
    await other.qmp.execute('migrate-incoming', { uri })
    await source.qmp.execute('migrate-set-parameters', { 'max-bandwidth': 100_000 })
    before = await fullState(source)
    await source.qmp.execute('migrate', { uri })
    await expectRefusal(await bench.incoming(), {
      exitCode: 9,
      code: 'MIGRATION_ACTIVE',
      message: /: a migration is under way \(active\)$/,
    })
    await source.qmp.execute('migrate_cancel')
  })

  test('cannot be migrated', async () => {
    source = await bench.start({
      args: ['-device', 'ivshmem-plain,memdev=m', '-object', 'memory-backend-ram,id=m,size=1M,share=on'],
    })
    before = await fullState(source)
    const { envelope } = await migrate(source.socket, (await bench.incoming()).socket)
    expect(envelope.error).toMatchObject({ exitCode: 5, code: 'MIGRATION_BLOCKED' })
  })
})

test.each(['source', 'destination'])(
  'a domain of libvirt as the %s, by its address or a registered name',
  async (side) => {
    process.env.VBLK_CONFIG_DIR = join(bench.dir, 'config')
    try {
      await vblk(['vm', 'add', 'web', 'libvirt:web', '--replace'])
      for (const name of ['libvirt:web?uri=qemu:///system', 'web']) {
        const [from, to] = side === 'source' ? [name, source.socket] : [source.socket, name]
        const { exitCode, envelope } = await migrate(from, to)
        expect({ exitCode, error: envelope.error }).toMatchObject({
          exitCode: 5,
          error: { code: 'LIBVIRT_DOMAIN', hint: expect.stringContaining('virsh migrate') },
        })
      }
    } finally {
      delete process.env.VBLK_CONFIG_DIR
    }
  },
)
