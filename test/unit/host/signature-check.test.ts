// SPDX-License-Identifier: GPL-2.0-or-later
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { fail } from '../../../src/host/check.ts'
import { checkSignature } from '../../../src/host/signature-check.ts'

let sys: string
const path = process.env.PATH
beforeEach(() => {
  sys = mkdtempSync(join(tmpdir(), 'vblk-sys-'))
  process.env.PATH = join(sys, 'bin')
})
afterEach(() => {
  process.env.PATH = path
  rmSync(sys, { recursive: true, force: true })
})

function put(name: string, content: string | Buffer): void {
  mkdirSync(dirname(join(sys, name)), { recursive: true })
  writeFileSync(join(sys, name), content)
}

const enforce = 'module/module/parameters/sig_enforce'
const lockdown = 'kernel/security/lockdown'
const secureBoot = 'firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c'

const file = { path: '/m.ko', installed: false, matches: true, name: 'vhost_blk' } as never

/** A modinfo that knows the signer of every module. */
function modinfoSays(signer: string): void {
  put('bin/modinfo', `#!/bin/sh\necho '${signer}'\n`)
  chmodSync(join(sys, 'bin/modinfo'), 0o755)
}

test('a kernel that asks for no signature', async () => {
  put(enforce, 'N\n')
  put(lockdown, '[none] integrity confidentiality\n')
  expect(await checkSignature(false, file, fail, sys)).toMatchObject({ status: 'ok' })
  put(secureBoot, Buffer.from([6, 0, 0, 0, 1]))
  expect((await checkSignature(false, file, fail, sys)).message).toMatch(/^Secure Boot is on; /)
})

test.each([
  [enforce, 'Y\n', /module\.sig_enforce.* is not signed$/],
  [lockdown, 'none [integrity] confidentiality\n', /lockdown: integrity.* is not signed$/],
])('a kernel that does: %s', async (name, content, message) => {
  put(name, content)
  modinfoSays('')
  expect(await checkSignature(false, file, fail, sys)).toEqual({
    name: 'module-signature',
    status: 'fail',
    message: expect.stringMatching(message),
    fix: 'vblk module sign',
  })
  modinfoSays('the key of this host')
  expect(await checkSignature(false, file, fail, sys)).toMatchObject({
    status: 'ok',
    message: expect.stringMatching(/signed by the key of this host$/),
  })
  expect(await checkSignature(false, undefined, fail, sys)).toMatchObject({ status: 'fail', fix: 'vblk module build' })
  expect(await checkSignature(true, undefined, fail, sys)).toMatchObject({ status: 'ok' })
})

test('without modinfo the signature is unknown, and the package is named', async () => {
  put(enforce, 'Y\n')
  expect(await checkSignature(false, file, fail, sys)).toMatchObject({ status: 'fail', fix: 'apt-get install kmod' })
})
