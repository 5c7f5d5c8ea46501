// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Conformance of /dev/vhost-blk, seen from a VMM and its guest.
 *
 *   ring --list
 *   ring --dir DIR --block DEVICE --cached DEVICE --slow DEVICE [CASE...]
 *   ring MODE OPTIONS (modes.h)
 *
 * Prints "ok NAME" or "not ok NAME: why" a case; exit status 1 if any failed. Each case runs in a process of its own,
 * so that its descriptors are gone when the next begins.
 */
#define _GNU_SOURCE
#include "modes.h"
#include "ring.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/fs.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* Of one case, seconds. */
#define TIME_LIMIT 60

const char *test_dir, *test_block, *test_cached, *test_slow;

static const struct test_case *const groups[] = {
	coherent_cases,
	data_cases, direct_cases, layout_cases, access_cases, lifecycle_cases, migration_cases,
	control_cases, worker_cases, observe_cases, hold_cases,
};

static const struct test_case *find_case(const char *name)
{
	for (size_t g = 0; g < sizeof(groups) / sizeof(*groups); g++)
		for (const struct test_case *c = groups[g]; c->name; c++)
			if (!strcmp(c->name, name))
				return c;
	return NULL;
}

/* For the reader of a kernel log. */
static void say_to_kernel_log(const char *name)
{
	FILE *file = fopen("/dev/kmsg", "w");

	if (!file)
		return;
	fprintf(file, "ring: %s\n", name);
	fclose(file);
}

/* What a case has frozen and left so would keep itself from its end, and every later case from its images. */
static void thaw(void)
{
	int dir = open(test_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (dir < 0)
		return;
	ioctl(dir, FITHAW, 0);
	close(dir);
}

static bool run(const struct test_case *c)
{
	char reason[1024] = "";
	size_t length = 0;
	ssize_t n;
	int pipes[2], status;
	pid_t child;

	say_to_kernel_log(c->name);
	fflush(stdout);
	if (pipe(pipes) < 0 || (child = fork()) < 0) {
		perror("ring");
		exit(1);
	}
	if (!child) {
		dup2(pipes[1], STDOUT_FILENO);
		close(pipes[0]);
		close(pipes[1]);
		alarm(TIME_LIMIT);
		c->run();
		_exit(0);
	}
	close(pipes[1]);
	/* A case speaks when it fails, and is silent to its end otherwise. */
	poll(&(struct pollfd){ .fd = pipes[0], .events = POLLIN }, 1, (TIME_LIMIT + 1) * 1000);
	thaw();
	while (length < sizeof(reason) - 1 && (n = read(pipes[0], reason + length, sizeof(reason) - 1 - length)) > 0)
		length += n;
	close(pipes[0]);
	waitpid(child, &status, 0);
	if (WIFEXITED(status) && !WEXITSTATUS(status)) {
		printf("ok %s\n", c->name);
		return true;
	}
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		snprintf(reason, sizeof(reason), "no end within %d seconds", TIME_LIMIT);
	else if (WIFSIGNALED(status))
		snprintf(reason, sizeof(reason), "killed by signal %d", WTERMSIG(status));
	printf("not ok %s: %s\n", c->name, reason);
	return false;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "list", no_argument, NULL, 'l' },
		{ "dir", required_argument, NULL, 'd' },
		{ "block", required_argument, NULL, 'b' },
		{ "cached", required_argument, NULL, 'c' },
		{ "slow", required_argument, NULL, 's' },
		{},
	};
	bool list = false, ok = true;
	int option;

	for (const struct mode *mode = modes; argc > 1 && mode->name; mode++)
		if (!strcmp(argv[1], mode->name))
			return mode->run(argc - 1, argv + 1);
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'l':
			list = true;
			break;
		case 'd':
			test_dir = optarg;
			break;
		case 'b':
			test_block = optarg;
			break;
		case 'c':
			test_cached = optarg;
			break;
		case 's':
			test_slow = optarg;
			break;
		default:
			return 2;
		}
	}
	if (!list && (!test_dir || !test_block || !test_cached || !test_slow)) {
		fprintf(stderr,
			"usage: ring --list | ring --dir DIR --block DEVICE --cached DEVICE --slow DEVICE [CASE...]\n");
		return 2;
	}
	for (int i = optind; i < argc; i++) {
		if (!find_case(argv[i])) {
			fprintf(stderr, "ring: no case %s; see ring --list\n", argv[i]);
			return 2;
		}
		ok &= run(find_case(argv[i]));
	}
	if (optind < argc)
		return !ok;
	for (size_t g = 0; g < sizeof(groups) / sizeof(*groups); g++)
		for (const struct test_case *c = groups[g]; c->name; c++) {
			if (list)
				puts(c->name);
			else
				ok &= run(c);
		}
	return !ok;
}
