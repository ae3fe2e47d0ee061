// The CPU thread pool.
//
// One word tells the workers all they need: its upper bits number the jobs, its lower bits say how many
// workers may join the open job (0: none is open). A worker joins by raising `active`, then looking at
// the word again; the caller closes the job by changing the word, then waits for `active` to fall to
// zero. Both sides write before they read, so a worker is either seen by the caller or sees the close:
// the caller never waits for a worker that is asleep, and the fields of a job never change under one
// that is in it. Ranges are claimed one by one, so late workers cost nothing.
//
// Workers spin for a while after a job, since a wake-up takes tens of microseconds, then sleep on the
// word. They are created on first use; a forked child has none and creates its own.
#include "vibetensor/cpu/parallel.h"

#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>

namespace {

constexpr int max_threads = 1024;
constexpr uint32_t wanted_bits = 12;
constexpr uint32_t wanted_mask = (1u << wanted_bits) - 1;
constexpr int64_t spin_ns = 300000;
constexpr int64_t ranges_per_thread = 4;  // evens out threads that are slowed down

struct Job {
  vt_task task;
  void *arg;
  int64_t n;
  int64_t range;
};

struct alignas(64) Pool {
  std::atomic<uint32_t> word{0};
  alignas(64) std::atomic<int64_t> next{0};  // first index nobody has claimed
  alignas(64) std::atomic<int> active{0};    // workers inside the job
  alignas(64) std::atomic<int> sleepers{0};
  std::atomic<bool> stop{false};
  alignas(64) std::atomic<bool> busy{false};  // somebody owns the fields below
  Job job{};
  int workers = 0;
  pthread_t threads[max_threads];
};

Pool pool;
std::atomic<int> num_threads{0};                                  // 0: not chosen yet
__thread bool inside __attribute__((tls_model("initial-exec")));  // this thread runs a task

void pause() { __builtin_ia32_pause(); }

int64_t now_ns() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t(t.tv_sec) * 1000000000 + t.tv_nsec;
}

long futex(int op, uint32_t value) {
  return syscall(SYS_futex, reinterpret_cast<uint32_t *>(&pool.word), op, value, nullptr, nullptr,
                 0);
}

int default_threads() {
  const char *text = getenv("VIBETENSOR_NUM_THREADS");
  int n = text != nullptr ? atoi(text) : 0;
  if (n <= 0) {
    cpu_set_t set;
    n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set)
                                                     : int(sysconf(_SC_NPROCESSORS_ONLN));
  }
  return n < 1 ? 1 : n > max_threads ? max_threads : n;
}

void run_ranges(const Job &job) {
  inside = true;
  for (;;) {
    int64_t begin = pool.next.fetch_add(job.range, std::memory_order_relaxed);
    if (begin >= job.n) break;
    int64_t end = job.n - begin < job.range ? job.n : begin + job.range;
    job.task(begin, end, job.arg);
  }
  inside = false;
}

// Returns when the word differs from `seen`.
void wait_for_change(uint32_t seen) {
  int64_t deadline = 0;
  for (int i = 1;; i++) {
    if (pool.word.load(std::memory_order_acquire) != seen) return;
    pause();
    if (i % 64 != 0) continue;
    int64_t now = now_ns();
    if (deadline == 0) deadline = now + spin_ns;
    if (now < deadline) continue;
    pool.sleepers.fetch_add(1);
    while (pool.word.load() == seen) futex(FUTEX_WAIT_PRIVATE, seen);
    pool.sleepers.fetch_sub(1);
    return;
  }
}

void *worker_main(void *arg) {
  uint32_t index = uint32_t(reinterpret_cast<uintptr_t>(arg));
  uint32_t seen = 0;
  while (!pool.stop.load()) {
    uint32_t word = pool.word.load();
    if (word != seen && index < (word & wanted_mask)) {
      pool.active.fetch_add(1);
      if (pool.word.load() == word) run_ranges(pool.job);
      pool.active.fetch_sub(1, std::memory_order_release);
    }
    seen = word;
    wait_for_change(seen);
  }
  return nullptr;
}

void stop_workers() {
  if (pool.workers == 0) return;
  pool.stop.store(true);
  pool.word.fetch_add(1u << wanted_bits);
  futex(FUTEX_WAKE_PRIVATE, INT32_MAX);
  for (int i = 0; i < pool.workers; i++) pthread_join(pool.threads[i], nullptr);
  pool.workers = 0;
  pool.stop.store(false);
}

// The workers did not come along into the child, whatever they were doing.
void reset_in_child() {
  pool.word.store(0);
  pool.active.store(0);
  pool.sleepers.store(0);
  pool.stop.store(false);
  pool.busy.store(false);
  pool.workers = 0;
}

// The caller owns the pool.
void set_workers(int wanted) {
  static bool watching_fork = false;
  if (!watching_fork) {
    pthread_atfork(nullptr, nullptr, reset_in_child);
    watching_fork = true;
  }
  if (pool.workers > wanted) stop_workers();
  // Signals are for the threads of the program.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (pool.workers < wanted) {
    void *index = reinterpret_cast<void *>(uintptr_t(pool.workers));
    if (pthread_create(&pool.threads[pool.workers], nullptr, worker_main, index) != 0) break;
    pool.workers++;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void wait_for_workers() {
  for (int i = 1; pool.active.load(std::memory_order_acquire) != 0; i++) {
    if (i % 4096 == 0) {
      sched_yield();  // a worker has lost its processor
    } else {
      pause();
    }
  }
}

}  // namespace

int vt_get_num_threads(void) {
  int n = num_threads.load(std::memory_order_relaxed);
  if (n == 0) {
    n = default_threads();
    num_threads.store(n, std::memory_order_relaxed);
  }
  return n;
}

// The next job creates or ends workers.
void vt_set_num_threads(int n) {
  num_threads.store(n < 1 ? 1 : n > max_threads ? max_threads : n, std::memory_order_relaxed);
}

void vt_parallel_for(int64_t n, int64_t grain, vt_task task, void *arg) {
  if (n <= 0) return;
  int threads = vt_get_num_threads();
  int64_t ranges = n / (grain < 1 ? 1 : grain);
  if (ranges > threads * ranges_per_thread) ranges = threads * ranges_per_thread;
  if (threads == 1 || ranges < 2 || inside || pool.busy.exchange(true, std::memory_order_acquire)) {
    task(0, n, arg);
    return;
  }
  if (pool.workers != threads - 1) set_workers(threads - 1);
  int64_t range = (n + ranges - 1) / ranges;
  if (range >= 1024) range = (range + 63) / 64 * 64;  // keeps the ranges of arrays aligned
  pool.job = {task, arg, n, range};
  pool.next.store(0, std::memory_order_relaxed);
  int64_t helpers = ranges - 1 < pool.workers ? ranges - 1 : pool.workers;
  uint32_t closed = pool.word.load(std::memory_order_relaxed);
  pool.word.store(closed + uint32_t(helpers));
  int sleepers = pool.sleepers.load();
  if (sleepers > 0) futex(FUTEX_WAKE_PRIVATE, INT32_MAX);
  run_ranges(pool.job);
  pool.word.store(closed + (1u << wanted_bits));
  wait_for_workers();
  pool.busy.store(false, std::memory_order_release);
}
