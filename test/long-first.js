// SPDX-License-Identifier: GPL-2.0-or-later
import TestSequencer from '@jest/test-sequencer'

const inLab = /\/test\/(kmod|device|cli|migrate|demo|lab)\//

/** What needs an emulated machine takes minutes: begun last, it would run on alone while the other worker has nothing to do. */
export default class LongFirst extends TestSequencer {
  sort(tests) {
    const order = super.sort(tests)
    return [...order.filter(({ path }) => inLab.test(path)), ...order.filter(({ path }) => !inLab.test(path))]
  }
}
