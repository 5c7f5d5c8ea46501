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
  // An emulated machine takes one core, and so do most tests without one.
  maxWorkers: 2,
  testSequencer: '<rootDir>/test/long-first.js',
  // Of a test that names no limit of its own: real parts on a slow machine take longer than jest's five seconds.
  testTimeout: 60_000,
}
