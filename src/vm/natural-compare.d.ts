// SPDX-License-Identifier: GPL-2.0-or-later
declare module 'natural-compare' {
  /** Orders text by its code units, and numbers in it by their value. Loads no collation tables, unlike localeCompare. */
  export default function naturalCompare(a: string, b: string): number
}
