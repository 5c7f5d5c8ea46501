// SPDX-License-Identifier: GPL-2.0-or-later
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { packageRoot } from '../../../src/host/paths.ts'
import {
  ABI_VERSION,
  bucketFromNs,
  LATENCY_BUCKETS,
  LATENCY_SIZE,
  readInfo,
  STATS_SIZE,
  VHOST_BLK_GET_INFO,
  VHOST_BLK_GET_LATENCY,
  VHOST_BLK_GET_STATS,
} from '../../../src/host/vhost-blk.ts'

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
      printf("%d %lu %zu %zu\\n", VHOST_BLK_ABI_VERSION, (unsigned long)VHOST_BLK_GET_INFO,
             offsetof(struct vhost_blk_info, abi_version), offsetof(struct vhost_blk_info, max_queues));
      printf("%lu %zu:", (unsigned long)VHOST_BLK_GET_STATS, sizeof(struct vhost_blk_stats));
#define AT(field) printf(" %zu", offsetof(struct vhost_blk_stats, field))
      AT(queue); AT(running); AT(inflight); AT(reads); AT(writes); AT(flushes); AT(others); AT(errors); AT(read_bytes);
      AT(write_bytes); AT(held);
      printf("\\n%lu %zu %d: %zu %zu %zu %zu\\n", (unsigned long)VHOST_BLK_GET_LATENCY, sizeof(struct vhost_blk_latency),
             VHOST_BLK_LATENCY_BUCKETS, offsetof(struct vhost_blk_latency, queue), offsetof(struct vhost_blk_latency, type),
             offsetof(struct vhost_blk_latency, sum_ns), offsetof(struct vhost_blk_latency, buckets));
      return 0;
    }`,
  )
  execFileSync('cc', ['-I', join(packageRoot, 'kmod/uapi'), '-o', program, source])
  expect(execFileSync(program, { encoding: 'utf8' }).trim().split('\n')).toEqual([
    `${ABI_VERSION} ${VHOST_BLK_GET_INFO} 0 4`,
    `${VHOST_BLK_GET_STATS} ${STATS_SIZE}: 0 4 8 16 24 32 40 48 56 64 80`,
    `${VHOST_BLK_GET_LATENCY} ${LATENCY_SIZE} ${LATENCY_BUCKETS}: 0 4 8 16`,
  ])
  rmSync(dir, { recursive: true })
})

test('buckets are those of the header', () => {
  expect([0, 1, 2, 3, 4, 5, 6].map(bucketFromNs)).toEqual([0, 1024, 1280, 1536, 1792, 2048, 2560])
  expect(bucketFromNs(101)).toBe(2 ** 35)
  expect(bucketFromNs(102)).toBe(Number.POSITIVE_INFINITY)
})

test('another kind of device does not answer', () => {
  expect(() => readInfo('/dev/null')).toThrow(expect.objectContaining({ code: 'ENOTTY' }))
  expect(() => readInfo('/dev/absent')).toThrow(expect.objectContaining({ code: 'ENOENT' }))
})
