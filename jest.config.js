// SPDX-License-Identifier: GPL-2.0-or-later

/** @type {import('jest').Config} */
export default {
  extensionsToTreatAsEsm: ['.ts'],
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'typescript' }, target: 'es2023' }, module: { type: 'es6' } },
    ],
  },
  testMatch: ['<rootDir>/test/**/*.test.ts'],
  modulePathIgnorePatterns: ['<rootDir>/.cache/', '<rootDir>/dist/'],
  reporters: ['default', '<rootDir>/test/count-reporter.js'],
  // The lab's suites share one emulated machine, and two cores don't carry two of them.
  maxWorkers: 1,
  // Of a test that names no limit of its own: real parts on a slow machine take longer than jest's five seconds.
  testTimeout: 60_000,
}
