// SPDX-License-Identifier: GPL-2.0-or-later

/** Closes a run with one line that any reader can count from. */
export default class CountReporter {
  onRunComplete(_contexts, results) {
    const { numPassedTests, numFailedTests, numPendingTests, numRuntimeErrorTestSuites } = results
    const skipped = numPendingTests ? `, ${numPendingTests} skipped` : ''
    process.stdout.write(`${numPassedTests} passed, ${numFailedTests + numRuntimeErrorTestSuites} failed${skipped}\n`)
  }
}
