// SPDX-License-Identifier: GPL-2.0-or-later
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { packageRoot } from '../../../src/host/paths.ts'
import { ABI_VERSION, readInfo, VHOST_BLK_GET_INFO } from '../../../src/host/vhost-blk.ts'

test('the figures are those of the header', () => {
  const dir = mkdtempSync(join(tmpdir(), 'vblk-abi-'))
  const source = join(dir, 'abi.c')
  const program = join(dir, 'abi')
  writeFileSync(
    source,
    `#include <stddef.h>
    #include <stdio.h>
    #include "vhost_blk.h"
    int main(void)
    {
      printf("%d %lu %zu %zu", VHOST_BLK_ABI_VERSION, (unsigned long)VHOST_BLK_GET_INFO,
             offsetof(struct vhost_blk_info, abi_version), offsetof(struct vhost_blk_info, max_queues));
      return 0;
    }`,
  )
  execFileSync('cc', ['-I', join(packageRoot, 'kmod/uapi'), '-o', program, source])
  expect(execFileSync(program, { encoding: 'utf8' })).toBe(`${ABI_VERSION} ${VHOST_BLK_GET_INFO} 0 4`)
  rmSync(dir, { recursive: true })
})

test('another kind of device does not answer', () => {
  expect(() => readInfo('/dev/null')).toThrow(expect.objectContaining({ code: 'ENOTTY' }))
  expect(() => readInfo('/dev/absent')).toThrow(expect.objectContaining({ code: 'ENOENT' }))
})
