// Random programs over the simulated driver, checked by the shadow model.
#include <atomic>
#include <thread>

#include "tests/cuda/allocator/model.h"
#include "tests/cuda/allocator/programs.h"

namespace model {

namespace {

constexpr int kStreams = 6;

struct Owned {
  Block *block;
  CUstream stream;
  bool elsewhere; /* used on another stream: its own may not touch it again without order */
};

struct Pool {
  PoolId id;
  int holds = 0;
};

// One program: what it holds, and the steps it is made of.
class Program {
 public:
  Program(uint64_t seed, bool captures, bool failures)
      : random_(seed), captures_(captures), failures_(failures) {
    streams_.push_back(nullptr);
    while (streams_.size() < kStreams) streams_.push_back(new_stream());
  }

  void step() {
    size_t what = random_.below(1000);
    if (what < 480) {
      allocate_one();
    } else if (what < 860) {
      release_one();
    } else if (what < 960) {
      use_elsewhere();
    } else if (what < 970) {
      touch_again();
    } else if (what < 974) {
      simulator_finish_work();
    } else if (what < 978) {
      if (capture_ < 0) driver.cuStreamSynchronize(streams_[1 + random_.below(kStreams - 1)]);
    } else if (what < 979) {
      empty_cache(0);
    } else if (what < 981) {
      if (failures_) fail_some();
    } else if (what < 990) {
      if (captures_) capture_ < 0 ? begin() : end();
    } else if (what < 995) {
      if (captures_) let_go();
    } else if (what < 996) {
      if (failures_) set_memory_fraction(0, 0.1 + 0.1 * double(random_.below(9)));
    }
    if (++steps_ % 2000 == 0) check();
  }

  void finish() {
    if (capture_ >= 0) end();
    simulator_clear_failures();
    while (!owned_.empty()) drop(owned_.size() - 1);
    for (Pool &p : pools_) {
      unclaim_and_release(p, p.holds);
    }
    model_.check_totals();
    simulator_finish_work();
    empty_cache(0);
    MemoryStats m = memory_stats(0);
    CHECK(m.allocated_bytes[2].current == 0 && m.active_bytes[2].current == 0);
    CHECK(m.reserved_bytes[2].current == 0, "%ld bytes are left",
          long(m.reserved_bytes[2].current));
    CHECK(m.segment[2].current == 0 && memory_snapshot().empty());
    no_violations();
  }

  int64_t failed() const { return failed_; }
  int64_t replays() const { return replays_; }

 private:
  CUstream any_stream() { return streams_[random_.below(kStreams)]; }

  void allocate_one() {
    CUstream stream = any_stream();
    size_t n =
        random_.chance(0.002) ? 0 : random_.size(random_.chance(0.02) ? 200 * MiB : 30 * MiB);
    if (random_.chance(0.7)) n = random_.size(64 * KiB);
    // Non-capturing streams cannot be used with the legacy one while another is captured.
    if (capture_ >= 0 && stream == nullptr) stream = streams_[capture_];
    Block *b = allocate(0, stream, n);
    if (b == nullptr) {
      CHECK(memory_error_is_oom(), "%s", memory_error());
      CHECK(std::string(memory_error()).find("CUDA out of memory. Tried to allocate") == 0);
      failed_++;
      for (size_t i = owned_.size() / 2; i > 0; --i) drop(random_.below(owned_.size()));
      if (capture_ >= 0) end();  // nothing cached can be given back before that
      if (random_.chance(0.2)) set_memory_fraction(0, 1);
      return;
    }
    bool captured = capture_ >= 0 && stream == streams_[capture_];
    model_.allocated(b, n, stream, captured ? pools_[pool_].id : PoolId{});
    if (captured) model_.claim(pools_[pool_].id);
    use(stream, b);
    owned_.push_back({b, stream, false});
  }

  void drop(size_t i) {
    Owned o = owned_[i];
    owned_[i] = owned_.back();
    owned_.pop_back();
    model_.released(o.block);
    release(o.block);
  }

  void release_one() {
    // Old and new ones.
    if (owned_.empty()) return;
    size_t n = owned_.size();
    drop(random_.chance(0.5) ? n - 1 : random_.below(n));
    if (n > 3000) drop(random_.below(n - 1));
  }

  // On another stream, after what its own stream did so far. Its own does not wait for that.
  void use_elsewhere() {
    if (owned_.empty()) return;
    Owned &o = owned_[random_.below(owned_.size())];
    CUstream other = any_stream();
    if (o.elsewhere || other == o.stream) return;
    if (capture_ >= 0) return;
    CHECK(order_streams(0, other, 0, o.stream) == VT_OK, "%s", last_error());
    use(other, o.block, random_.chance(0.5));
    record_stream(o.block, other);
    o.elsewhere = true;
  }

  void touch_again() {
    if (owned_.empty() || capture_ >= 0) return;
    Owned &o = owned_[random_.below(owned_.size())];
    if (!o.elsewhere) use(o.stream, o.block);
  }

  void fail_some() {
    static const char *const functions[] = {"cuMemAlloc", "cuMemCreate"};
    simulator_fail(functions[random_.below(2)], 1 + random_.below(3), CUDA_ERROR_OUT_OF_MEMORY,
                   1 + random_.below(4));
  }

  // A graph of its own or in a pool that another one uses.
  void begin() {
    capture_ = int(1 + random_.below(kStreams - 1));
    if (pools_.empty() || random_.chance(0.5)) pools_.push_back({new_pool_id(), 0});
    pool_ = random_.below(pools_.size());
    CUstream s = streams_[capture_];
    CHECK(begin_allocate_to_pool(0, pools_[pool_].id, s));
    pools_[pool_].holds++;
    CHECK(driver.cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) == CUDA_SUCCESS);
  }

  void end() {
    CUstream s = streams_[capture_];
    CUgraph graph = nullptr;
    CHECK(driver.cuStreamEndCapture(s, &graph) == CUDA_SUCCESS, "the capture was broken");
    end_allocate_to_pool(0, pools_[pool_].id);
    CUgraphExec exec = nullptr;
    CHECK(driver.cuGraphInstantiate(&exec, graph, 0) == CUDA_SUCCESS);
    driver.cuGraphExecDestroy(exec);
    driver.cuGraphDestroy(graph);
    capture_ = -1;
    replays_++;
  }

  void unclaim_and_release(Pool &p, int times) {
    for (; times > 0; --times) {
      if (--p.holds == 0) model_.unclaim(p.id);
      release_pool(0, p.id);
    }
  }

  void let_go() {
    if (pools_.empty() || capture_ >= 0) return;
    Pool &p = pools_[random_.below(pools_.size())];
    if (p.holds > 0) unclaim_and_release(p, 1);
  }

  void check() {
    model_.check_totals();
    model_.check_claims();
    no_violations();
  }

  Random random_;
  bool captures_, failures_;
  Model model_;
  std::vector<CUstream> streams_;
  std::vector<Owned> owned_;
  std::vector<Pool> pools_;
  int capture_ = -1;
  size_t pool_ = 0;
  int64_t steps_ = 0, failed_ = 0, replays_ = 0;
};

}  // namespace

void fuzz(uint64_t seed, long steps, const char *allocator_options, bool at_random) {
  start(size_t(3) * GiB);
  set_options(allocator_options);
  simulator_set_completion(at_random ? kCompleteAtRandom : kCompleteWhenAwaited, seed);
  Program program(seed, true, true);
  for (long i = 0; i < steps; ++i) program.step();
  program.finish();
  printf("%ld steps, %ld out of memory, %ld captures\n", steps, long(program.failed()),
         long(program.replays()));
}

// --- threads --------------------------------------------------------------------------------------

namespace {

// Blocks handed from thread to thread.
struct Exchange {
  std::mutex mutex;
  std::vector<Owned> waiting;
};

void work(uint64_t seed, long steps, Model *model, Exchange *exchange, CUstream shared) {
  use_device(0);
  Random random(seed);
  std::vector<CUstream> streams = {new_stream(), new_stream(), shared};
  std::vector<Owned> owned;
  auto drop = [&](size_t i) {
    Owned o = owned[i];
    owned[i] = owned.back();
    owned.pop_back();
    model->released(o.block);
    release(o.block);
  };
  for (long i = 0; i < steps; ++i) {
    size_t what = random.below(100);
    if (what < 45 || owned.empty()) {
      CUstream s = streams[random.below(3)];
      size_t n = random.size(random.chance(0.1) ? 20 * MiB : 256 * KiB);
      Block *b = allocate(0, s, n);
      if (b == nullptr) {
        CHECK(memory_error_is_oom(), "%s", memory_error());
        while (owned.size() > 10) drop(owned.size() - 1);
        continue;
      }
      model->allocated(b, n, s);
      // On the stream that threads share nothing says which of them comes first in its own.
      use(s, b);
      owned.push_back({b, s, false});
    } else if (what < 85 || owned.size() > 500) {
      drop(random.below(owned.size()));
    } else if (what < 93) {
      Owned &o = owned[random.below(owned.size())];
      CUstream other = streams[random.below(2)];
      if (o.elsewhere || other == o.stream) continue;
      order_streams(0, other, 0, o.stream);
      use(other, o.block);
      record_stream(o.block, other);
      o.elsewhere = true;
    } else {
      std::lock_guard<std::mutex> guard(exchange->mutex);
      size_t k = random.below(owned.size());
      exchange->waiting.push_back(owned[k]);
      owned[k] = owned.back();
      owned.pop_back();
      if (exchange->waiting.size() > 20) {
        owned.push_back(exchange->waiting.front());
        exchange->waiting.erase(exchange->waiting.begin());
      }
    }
    if (i % 5000 == 4999) (void)memory_stats(0);
    if (i % 20000 == 19999) empty_cache(0);
  }
  while (!owned.empty()) drop(owned.size() - 1);
}

// As many allocations on one stream as it can take, with nothing between the threads that would put
// them in order: a byte per 512 of memory says who has it.
void contend(uint64_t seed, long steps, CUstream stream, std::vector<std::atomic<char>> *taken) {
  use_device(0);
  Random random(seed);
  std::vector<Block *> owned;
  auto mark = [&](Block *b, char from, char to) {
    size_t first = uintptr_t(block_data(b)) / 512, last = first + block_size(b) / 512 - 1;
    for (size_t unit = first;; unit = last) {
      char before = (*taken)[unit % taken->size()].exchange(to);
      CHECK(before == from, "memory that two threads have");
      if (unit == last) break;
    }
  };
  for (long i = 0; i < steps; ++i) {
    if (owned.size() < 8 || (owned.size() < 64 && random.chance(0.5))) {
      Block *b = allocate(0, stream, random.chance(0.9) ? 512 * (1 + random.below(8)) : 2 * MiB);
      CHECK(b != nullptr, "%s", memory_error());
      mark(b, 0, 1);
      owned.push_back(b);
    } else {
      std::swap(owned[random.below(owned.size())], owned.back());
      mark(owned.back(), 1, 0);
      release(owned.back());
      owned.pop_back();
    }
  }
  for (Block *b : owned) {
    mark(b, 1, 0);
    release(b);
  }
}

}  // namespace

void threads(uint64_t seed, long steps, int count, const char *allocator_options) {
  start(size_t(2) * GiB);
  set_options(allocator_options);
  simulator_set_completion(kCompleteAtRandom, seed);
  Model model;
  Exchange exchange;
  CUstream shared = new_stream();
  std::vector<std::thread> all;
  for (int t = 0; t < count; ++t) {
    all.emplace_back(work, seed * 100 + uint64_t(t), steps / count, &model, &exchange, shared);
  }
  for (auto &t : all) t.join();
  for (Owned &o : exchange.waiting) {
    model.released(o.block);
    release(o.block);
  }
  model.check_totals();
  simulator_finish_work();
  empty_cache(0);
  MemoryStats m = memory_stats(0);
  CHECK(m.reserved_bytes[2].current == 0 && m.active[2].current == 0);
  no_violations();

  driver.block_allocated = nullptr;
  driver.block_released = nullptr;
  std::vector<std::atomic<char>> taken(size_t(1) << 23);  // of 4 GiB
  all.clear();
  for (int t = 0; t < count; ++t) {
    all.emplace_back(contend, seed * 1000 + uint64_t(t), steps / count, shared, &taken);
  }
  for (auto &t : all) t.join();
  m = memory_stats(0);
  CHECK(m.allocated_bytes[2].current == 0 && m.allocation[2].current == 0);
  printf("%ld steps in %d threads\n", steps, count);
}

}  // namespace model
