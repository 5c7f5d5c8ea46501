// SPDX-License-Identifier: GPL-2.0-or-later
/*
 *   fuzz --seed N (--count REQUESTS | --seconds S) --dir DIR --block DEV[:BLOCKSIZE]… --hostile-block DEV… [--life L]
 *
 * Devices hold IMAGE_SIZE bytes or more, which are overwritten. Prints what it did and exits 0; or says what went wrong,
 * and in which life, and exits 1. A seed and a life's number repeat that life's choices (--life), if not the timing.
 */
#define _GNU_SOURCE
#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

/* So long nothing at all happens in a life only if something hangs. */
#define STANDSTILL_MS 90000
/* And so long no life takes, whatever a part of it still does. */
#define LIFE_LIMIT_MS 600000
#define MAX_IMAGES 8

const char *test_dir, *test_block, *test_slow;
struct shared *shared;

static struct image tame_images[MAX_IMAGES], hostile_images[MAX_IMAGES];
static unsigned int tame_count, hostile_count;

static struct life plan_life(uint64_t seed, unsigned int index)
{
	struct random r = { seed * 0x10001 + index };
	static const uint64_t optional[] = { 1ULL << VIRTIO_RING_F_EVENT_IDX, 1ULL << VIRTIO_BLK_F_DISCARD,
					     1ULL << VIRTIO_BLK_F_WRITE_ZEROES };
	struct life life = { .index = index, .features = FEATURES };
	uint64_t first = chance(&r, 20) ? 0 : below(&r, 200);
	uint64_t sectors = chance(&r, 30) ? IMAGE_SECTORS - first : 600 + below(&r, IMAGE_SECTORS - first - 600);

	life.seed = next(&r);
	life.wild = chance(&r, 25);
	life.kill = chance(&r, 25);
	life.tame = life.wild ? 0 : 1 + below(&r, MAX_TAME);
	life.hostile = life.wild ? 1 + below(&r, MAX_HOSTILE) : below(&r, 3);
	life.num = 8 << below(&r, 5);
	for (unsigned int i = 0; i < 3; i++)
		life.features |= chance(&r, 70) ? optional[i] : 0;
	if (chance(&r, 10))
		life.features &= ~(1ULL << VIRTIO_BLK_F_FLUSH);
	life.image = &tame_images[below(&r, tame_count)];
	life.hostile_image = &hostile_images[below(&r, hostile_count)];
	life.open_flags = chance(&r, 60) ? O_DIRECT : 0;
	life.hostile_flags = chance(&r, 60) ? O_DIRECT : 0;
	life.offset = first * SECTOR;
	life.capacity = sectors * SECTOR;
	life.flags = (chance(&r, 15) ? VHOST_BLK_CONFIG_READ_ONLY : 0) | (chance(&r, 20) ? VHOST_BLK_CONFIG_WRITETHROUGH : 0);
	life.log = !life.wild && chance(&r, 40);
	life.requests = 100 + below(&r, 900);
	return life;
}

struct thread {
	pthread_t thread;
	struct run *run;
	void (*body)(struct run *run, unsigned int queue);
	unsigned int queue;
};

static void *run_thread(void *data)
{
	struct thread *thread = data;

	thread->body(thread->run, thread->queue);
	return NULL;
}

static void vmm_thread(struct run *run, unsigned int queue)
{
	(void)queue;
	if (run->life->wild)
		wild_vmm(run);
	else
		polite_vmm(run);
}

static void scribbler_thread(struct run *run, unsigned int queue)
{
	(void)queue;
	scribbler(run);
}

static void start(struct thread *thread, struct run *run, void (*body)(struct run *, unsigned int), unsigned int queue)
{
	*thread = (struct thread){ .run = run, .body = body, .queue = queue };
	CHECK(!pthread_create(&thread->thread, NULL, run_thread, thread), "no thread");
}

/* Stops every queue and closes: with tame guests what they leave is checked. */
static void end_life(struct run *run)
{
	struct vm *vm = run->vm;

	for (unsigned int i = 0; i < run->life->tame; i++) {
		EQUAL(vm_backend(vm, i, -1), 0, "the last stop");
		EQUAL(vm->ring[i].used->idx, vm->ring[i].avail->idx, "the used index in the end, and the available one");
	}
	if (run->life->tame)
		run_check_guards(run);
	if (run->life->seed % 2)
		vm_close(vm);
}

__attribute__((noreturn)) static void live(const struct life *life)
{
	struct run *run = run_open(life);
	struct thread guests[MAX_QUEUES], vmm, scribble;
	struct random r = { life->seed * 3 };

	for (unsigned int i = 0; i < life->tame; i++)
		start(&guests[i], run, tame_guest, i);
	for (unsigned int i = life->tame; i < life->tame + life->hostile; i++)
		start(&guests[i], run, hostile_guest, i);
	start(&vmm, run, vmm_thread, 0);
	if (life->hostile)
		start(&scribble, run, scribbler_thread, 0);
	/* Another way to go: the descriptor is closed under everybody's feet. */
	if (life->wild && chance(&r, 20)) {
		usleep(below(&r, 300000));
		close(run->vm->fd);
	}
	for (unsigned int i = 0; i < (life->tame ? life->tame : life->hostile); i++)
		pthread_join(guests[i].thread, NULL);
	atomic_store(&run->over, true);
	pthread_join(vmm.thread, NULL);
	if (life->hostile)
		pthread_join(scribble.thread, NULL);
	for (unsigned int i = life->tame; life->tame && i < life->tame + life->hostile; i++)
		pthread_join(guests[i].thread, NULL);
	end_life(run);
	_exit(0);
}

static void show(const char *path)
{
	char text[4096];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	while (fd >= 0 && (n = read(fd, text, sizeof(text))) > 0)
		fwrite(text, 1, n, stdout);
	close(fd);
}

/* Where its threads are, and where the kernel's own blocked ones. */
static void show_hang(pid_t pid)
{
	char path[64];
	FILE *trigger;

	for (int tid = pid; tid < pid + 40; tid++) {
		snprintf(path, sizeof(path), "/proc/%d/task/%d/stack", pid, tid);
		if (access(path, R_OK))
			continue;
		printf("thread %d:\n", tid);
		show(path);
	}
	trigger = fopen("/proc/sysrq-trigger", "w");
	if (trigger) {
		fputs("w", trigger);
		fclose(trigger);
	}
}

/* Grows with whatever a life does. */
static unsigned long happened(void)
{
	return shared->answered + shared->taken + shared->broken + shared->ioctls + shared->refused;
}

/* Waits for the child, and says in why what was wrong with it. */
static void await(pid_t child, const struct life *life, int output, char *why, size_t size)
{
	uint64_t start = now_ms(), kill_at = life->kill ? start + 1 + life->seed % 400 : UINT64_MAX;
	uint64_t last = start;
	unsigned long events = 0;
	bool killed = false;
	size_t length = 0;
	int status;

	while (!waitpid(child, &status, WNOHANG)) {
		ssize_t n = read(output, why + length, size - 1 - length);

		length += n > 0 ? n : 0;
		if (!killed && now_ms() >= kill_at) {
			kill(child, SIGKILL);
			killed = true;
		}
		if (happened() != events) {
			events = happened();
			last = now_ms();
		}
		if (now_ms() - last > STANDSTILL_MS || now_ms() - start > LIFE_LIMIT_MS) {
			snprintf(why, size, "no end after %d s, and nothing for %d s%s; the VMM was at: %s",
				 (int)(now_ms() - start) / 1000, (int)(now_ms() - last) / 1000,
				 killed ? " although it was killed" : "", shared->doing);
			show_hang(child);
			return;
		}
		usleep(1000);
	}
	while (length < size - 1) {
		ssize_t n = read(output, why + length, size - 1 - length);

		if (n <= 0)
			break;
		length += n;
	}
	why[length] = 0;
	/* A wild VMM hands out memory near its own heap and stacks: what it loses there is no fault of the kernel's. */
	if (*why || (WIFEXITED(status) && !WEXITSTATUS(status)) || ((killed || life->wild) && WIFSIGNALED(status)))
		return;
	snprintf(why, size, "it ended with status %#x", status);
}

static void say_to_kernel_log(unsigned long seed, const struct life *life)
{
	FILE *file = fopen("/dev/kmsg", "w");

	if (!file)
		return;
	fprintf(file, "fuzz: seed %lu life %u\n", seed, life->index);
	fclose(file);
}

static bool one_life(unsigned long seed, const struct life *life)
{
	char why[1024] = "";
	int pipes[2];
	pid_t child;

	say_to_kernel_log(seed, life);
	image_remember(life->hostile_image);
	snprintf(shared->doing, sizeof(shared->doing), "opening");
	fflush(stdout);
	CHECK(!pipe2(pipes, O_NONBLOCK | O_CLOEXEC), "pipe: %s", strerror(errno));
	child = fork();
	CHECK(child >= 0, "fork: %s", strerror(errno));
	if (!child) {
		dup2(pipes[1], STDOUT_FILENO);
		live(life);
	}
	close(pipes[1]);
	await(child, life, pipes[0], why, sizeof(why));
	close(pipes[0]);
	/* After a failure too: is the wrong thing in the image, or only in the answer? */
	if (!life->wild)
		image_check(life->image, life, why + strlen(why), sizeof(why) - strlen(why));
	image_check(life->hostile_image, life, why + strlen(why), sizeof(why) - strlen(why));
	if (!*why)
		return true;
	printf("not ok: life %u (%s, %u tame queues of %u on %s %s, %u hostile on %s %s, flags %#x, features %#llx%s%s): %s\n",
	       life->index, life->wild ? "wild" : "tame", life->tame, life->num, life->open_flags ? "direct" : "buffered",
	       life->image->path, life->hostile, life->hostile_flags ? "direct" : "buffered", life->hostile_image->path,
	       life->flags, (unsigned long long)life->features, life->log ? ", logging" : "", life->kill ? ", killed" : "", why);
	return false;
}

/* PATH or PATH:BLOCKSIZE. */
static void add_block(struct image *images, unsigned int *count, char *argument, bool tame)
{
	char *colon = strchr(argument, ':');
	struct image *image = &images[(*count)++];

	CHECK(*count <= MAX_IMAGES, "too many devices");
	if (colon)
		*colon = 0;
	*image = (struct image){ .path = argument, .block = true, .block_sectors = colon ? atoi(colon + 1) / SECTOR : 1 };
	image_init(image, tame);
}

static void add_file(struct image *images, unsigned int *count, const char *name, bool tame)
{
	char *path;

	CHECK(asprintf(&path, "%s/%s", test_dir, name) > 0, "no memory");
	images[*count] = (struct image){ .path = path, .block_sectors = 1 };
	image_init(&images[(*count)++], tame);
}

static unsigned long done(void)
{
	return shared->answered + shared->taken;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seed", required_argument, NULL, 's' },  { "count", required_argument, NULL, 'c' },
		{ "seconds", required_argument, NULL, 't' }, { "dir", required_argument, NULL, 'd' },
		{ "block", required_argument, NULL, 'b' }, { "hostile-block", required_argument, NULL, 'h' },
		{ "life", required_argument, NULL, 'l' },  {},
	};
	unsigned long seed = time(NULL), count = ULONG_MAX, seconds = ULONG_MAX / 1000;
	unsigned int first = 0, lives = 0, killed = 0;
	uint64_t start = now_ms();
	bool single = false, ok = true;
	int option;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	/* The file first: life by life the same images, in whatever order they were given. */
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 's':
			seed = strtoul(optarg, NULL, 0);
			break;
		case 'c':
			count = strtoul(optarg, NULL, 0);
			break;
		case 't':
			seconds = strtoul(optarg, NULL, 0);
			break;
		case 'd':
			test_dir = optarg;
			add_file(tame_images, &tame_count, "tame", true);
			add_file(hostile_images, &hostile_count, "hostile", false);
			break;
		case 'b':
			add_block(tame_images, &tame_count, optarg, true);
			break;
		case 'h':
			add_block(hostile_images, &hostile_count, optarg, false);
			break;
		case 'l':
			first = strtoul(optarg, NULL, 0);
			single = true;
			break;
		default:
			return 2;
		}
	}
	if (!tame_count || !hostile_count || (count == ULONG_MAX && seconds == ULONG_MAX / 1000 && !single)) {
		fprintf(stderr, "usage: fuzz [--seed N] --count N|--seconds S|--life L --dir DIR [--block DEV[:BLOCKSIZE]]… "
				"[--hostile-block DEV]…\n");
		return 2;
	}
	setrlimit(RLIMIT_CORE, &(struct rlimit){});
	printf("seed %lu\n", seed);
	for (unsigned int i = first; ok && done() < count && now_ms() - start < seconds * 1000; i++) {
		struct life life = plan_life(seed, i);

		ok = one_life(seed, &life);
		lives++;
		killed += life.kill;
		if (single)
			break;
	}
	printf("%u lives, %u killed: %lu requests answered and checked, %lu hostile chains taken, %lu rings given up on, "
	       "%lu ioctls, %lu refused; %.1f s\n", lives, killed, shared->answered, shared->taken, shared->broken,
	       shared->ioctls, shared->refused, (now_ms() - start) / 1000.0);
	return !ok;
}
