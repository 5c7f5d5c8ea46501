// SPDX-License-Identifier: GPL-2.0-or-later
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { ElfError, readBuildId, readSection } from '../../../src/host/elf.ts'
import { readModuleInfo } from '../../../src/host/module-info.ts'

const id = '0123456789abcdef0123456789abcdef01234567'
let dir: string
let program: string

/** A program with a build id of our choice, and a .modinfo section as a module has one. */
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'vblk-elf-'))
  program = join(dir, 'program.ko')
  const source = join(dir, 'program.c')
  const info = 'name=vhost_blk\\0version=0.1.0\\0vermagic=6.1.0-1-amd64 SMP mod_unload\\0parm=x:y=z\\0'
  writeFileSync(
    source,
    `__attribute__((section(".modinfo"), used)) static const char info[] = "${info}";\nint main(void) { return 0; }\n`,
  )
  execFileSync('cc', [`-Wl,--build-id=0x${id}`, '-o', program, source])
})
afterAll(() => rmSync(dir, { recursive: true }))

test('reads the build id', async () => {
  expect(await readBuildId(program)).toBe(id)
})

test('reads what a module says of itself', async () => {
  expect(await readModuleInfo(program)).toEqual({ name: 'vhost_blk', version: '0.1.0', kernel: '6.1.0-1-amd64' })
})

describe('a file that is something else', () => {
  test.each([
    ['text', 'hello, this is a text that is longer than an ELF header is, so that the magic decides'],
    ['nothing', ''],
    ['a 32-bit program', '\x7fELF\x01\x01'.padEnd(64, '\0')],
  ])('%s', async (name, content) => {
    const path = join(dir, name)
    writeFileSync(path, content)
    await expect(readBuildId(path)).rejects.toThrow(`${path} is no 64-bit ELF file`)
    await expect(readSection(path, '.modinfo')).rejects.toThrow(ElfError)
  })

  test('a folder, a device, and nothing there', async () => {
    await expect(readBuildId(dir)).rejects.toThrow('is not a file')
    await expect(readBuildId('/dev/null')).rejects.toThrow('is not a file')
    await expect(readBuildId(join(dir, 'absent'))).rejects.toThrow('ENOENT')
  })

  test('a program without a build id, and without a section', async () => {
    const stripped = join(dir, 'stripped')
    execFileSync('cc', ['-Wl,--build-id=none', '-o', stripped, join(dir, 'program.c')])
    await expect(readBuildId(stripped)).rejects.toThrow('has no build id')
    await expect(readSection(stripped, '.absent')).rejects.toThrow('has no section .absent')
  })

  test('a file cut short anywhere, or with any byte of its header changed, is told or still read, and never hangs', async () => {
    const whole = readFileSync(program)
    const path = join(dir, 'broken')
    for (let size = 0; size < whole.length; size += 997) {
      writeFileSync(path, whole)
      truncateSync(path, size)
      await expectToldOrRead(path)
    }
    for (let at = 0; at < 64; at++) {
      const broken = Buffer.from(whole)
      broken[at] = 0xff
      writeFileSync(path, broken)
      await expectToldOrRead(path)
    }
  })
})

async function expectToldOrRead(path: string): Promise<void> {
  for (const read of [() => readBuildId(path), () => readSection(path, '.modinfo')]) {
    const outcome = await read().catch((error: unknown) => error)
    if (typeof outcome === 'string') expect(outcome).toBe(id)
    else expect(Buffer.isBuffer(outcome) || outcome instanceof ElfError).toBe(true)
  }
}
