/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the program does beside running cases: "ring MODE OPTIONS". Each prints one line of JSON and exits 0, or says
 * what is wrong and exits 1.
 */
#ifndef MODES_H
#define MODES_H

struct mode {
	const char *name;
	int (*run)(int argc, char **argv);
};

extern const struct mode modes[];

/* A verifying load on a file: load.c says with what options. */
int load_mode(int argc, char **argv);
/* Compares a file with a model: check.c. */
int check_mode(int argc, char **argv);
/* Reads a log of dm-log-writes: replay.c. */
int replay_mode(int argc, char **argv);

#endif
