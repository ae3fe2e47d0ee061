// One situation each: what the random programs reach only now and then, or would not tell apart.
#include <string.h>

#include <chrono>
#include <functional>
#include <thread>

#include "tests/cuda/allocator/model.h"
#include "tests/cuda/allocator/programs.h"

namespace model {

namespace {

constexpr int kEverything = 2;

Block *get(CUstream s, size_t bytes) {
  Block *b = allocate(0, s, bytes);
  CHECK(b != nullptr, "%s", memory_error());
  return b;
}

int64_t reserved() { return memory_use(0).reserved; }
bool says(const char *part) { return strstr(memory_error(), part) != nullptr; }

void sizes() {
  start(4 * GiB);
  CUstream s = new_stream();
  const size_t table[][3] = {// bytes, block, segment
                             {0, 512, 2 * MiB},
                             {1, 512, 2 * MiB},
                             {513, 1024, 2 * MiB},
                             {MiB, MiB, 2 * MiB},
                             {MiB + 1, MiB + 512, 20 * MiB},
                             {10 * MiB, 10 * MiB, 10 * MiB},
                             {10 * MiB + 1, 10 * MiB + 512, 12 * MiB}};
  for (auto &row : table) {
    Block *b = get(s, row[0]);
    // What is left of a segment of its own is below the smallest large block: not cut off.
    size_t rest = row[2] - row[1];
    size_t expected = row[1] > MiB && rest <= MiB ? row[2] : row[1];
    CHECK(block_size(b) == expected, "%zu bytes: %zu", row[0], block_size(b));
    CHECK(reserved() == int64_t(row[2]), "%zu bytes: %ld", row[0], long(reserved()));
    release(b);
    empty_cache(0);
    CHECK(reserved() == 0);
  }
  set_options("roundup_power2_divisions:4");
  for (auto &row :
       {std::pair<size_t, size_t>{1000, 1024}, {4097, 5120}, {1200 * KiB, 1280 * KiB}}) {
    Block *b = get(s, row.first);
    CHECK(block_size(b) == row.second, "%zu", block_size(b));
    release(b);
  }
}

void joins() {
  start(4 * GiB);
  CUstream s = new_stream();
  // In every order of release, the pieces become one block again.
  const int orders[][4] = {{0, 1, 2, 3}, {3, 2, 1, 0}, {0, 2, 1, 3}, {1, 3, 0, 2}};
  for (auto &order : orders) {
    Block *parts[4];
    for (auto &p : parts) p = get(s, 512 * KiB);
    for (int i : order) release(parts[i]);
    Block *one = get(s, MiB), *two = get(s, MiB);
    CHECK(reserved() == int64_t(2 * MiB));
    release(one);
    release(two);
  }
  auto snapshot = memory_snapshot();
  CHECK(snapshot.size() == 1 && snapshot[0].blocks.size() == 1);
}

void streams() {
  start(4 * GiB);
  CUstream a = new_stream(), b = new_stream();
  Block *x = get(a, 4096);
  void *address = block_data(x);
  release(x);
  Block *y = get(b, 4096);
  CHECK(block_data(y) != address, "another stream got it without order");
  Block *z = get(a, 4096);
  CHECK(block_data(z) == address, "the same stream did not get it back");
  release(y);
  release(z);
}

void other_streams() {
  start(4 * GiB);
  simulator_set_completion(kCompleteWhenAwaited, 1);
  CUstream a = new_stream(), b = new_stream();
  Block *x = get(a, 4 * MiB);
  use(a, x);
  order_streams(0, b, 0, a);
  use(b, x);
  record_stream(x, b);
  record_stream(x, a);  // its own: nothing to wait for
  void *address = block_data(x);
  release(x);
  MemoryStats m = memory_stats(0);
  CHECK(m.allocation[kEverything].current == 0 && m.active[kEverything].current == 1);
  Block *y = get(a, 4 * MiB);
  CHECK(block_data(y) != address, "reused while another stream was at it");
  use(a, y);
  release(y);
  CHECK(driver.cuStreamSynchronize(b) == CUDA_SUCCESS);
  // Looked at now and then: within a few requests it is back.
  bool back = false;
  for (int i = 0; i < 32 && !back; ++i) {
    Block *z = get(a, 4 * MiB);
    Block *w = get(a, 4 * MiB);
    back = block_data(z) == address || block_data(w) == address;
    release(z);
    release(w);
  }
  CHECK(back);
  CHECK(memory_stats(0).active[kEverything].current == 0);
  no_violations();
  // And the check works: without the record, the reuse is seen.
  Block *v = get(a, 4 * MiB);
  use(a, v);
  order_streams(0, b, 0, a);
  use(b, v);
  release(v);
  v = get(a, 4 * MiB);
  use(a, v);
  CHECK(!simulator_violations().empty(), "the simulator does not see a reuse without order");
  release(v);
}

void out_of_memory() {
  start(GiB);
  simulator_set_completion(kCompleteWhenAwaited, 1);
  CUstream a = new_stream(), b = new_stream();

  // What another stream has cached is given back.
  release(get(b, 600 * MiB));
  Block *x = get(a, 700 * MiB);
  CHECK(memory_stats(0).num_alloc_retries == 1 && memory_stats(0).num_ooms == 0);

  // What waits for another stream is waited for.
  use(a, x);
  order_streams(0, b, 0, a);
  use(b, x);
  record_stream(x, b);
  release(x);
  x = get(a, 700 * MiB);
  use(a, x);
  no_violations();

  // Then it fails, and says why.
  CHECK(allocate(0, a, 500 * MiB) == nullptr && memory_error_is_oom());
  for (const char *part :
       {"CUDA out of memory. Tried to allocate 500.00 MiB. GPU 0 has a total capacity of 1.00 GiB",
        "is free", "has reserved 700.00 MiB: 700.00 MiB is allocated", "fragmentation",
        "make the batch smaller"}) {
    CHECK(says(part), "'%s' is not in: %s", part, memory_error());
  }
  CHECK(memory_stats(0).num_ooms == 1);

  // And goes on once memory was freed.
  release(x);
  release(get(a, 500 * MiB));

  // The driver fails once: the second attempt succeeds.
  empty_cache(0);
  release(get(b, MiB));
  simulator_fail("cuMemAlloc", 1, CUDA_ERROR_OUT_OF_MEMORY, 1);
  x = get(a, 30 * MiB);
  release(x);

  // Something else than memory is at fault: no attempts, another error.
  int64_t retries = memory_stats(0).num_alloc_retries;
  empty_cache(0);
  simulator_fail("cuMemAlloc", 1, CUDA_ERROR_ILLEGAL_ADDRESS, 1);
  CHECK(allocate(0, a, 30 * MiB) == nullptr && !memory_error_is_oom());
  CHECK(says("CUDA error"), "%s", memory_error());
  CHECK(memory_stats(0).num_alloc_retries == retries);

  CHECK(allocate(0, a, size_t(1) << 60) == nullptr && memory_error_is_oom());
  CHECK(allocate(7, a, 512) == nullptr && !memory_error_is_oom(), "there is no device 7");
}

void fragmented() {
  start(GiB);
  CUstream a = new_stream();
  std::vector<Block *> small, large;
  for (int i = 0; i < 50; ++i) {
    small.push_back(get(a, 2 * MiB));  // a new segment of 20 MiB
    large.push_back(get(a, 18 * MiB));
  }
  // Most of it becomes free, but in pieces, each beside a block that is used.
  for (Block *b : large) release(b);
  CHECK(memory_stats(0).inactive_split_bytes[kEverything].current == int64_t(900 * MiB));
  CHECK(allocate(0, a, 300 * MiB) == nullptr && memory_error_is_oom());
  CHECK(says("expandable_segments:True") && says("98% fragmentation"), "%s", memory_error());
  for (Block *b : small) release(b);
  release(get(a, 300 * MiB));
}

void fraction() {
  start(GiB);
  CUstream a = new_stream();
  CHECK(set_memory_fraction(0, 0.5) && memory_fraction(0) == 0.5);
  Block *x = get(a, 400 * MiB);
  CHECK(allocate(0, a, 200 * MiB) == nullptr && memory_error_is_oom());
  CHECK(says("512.00 MiB are allowed to this process"), "%s", memory_error());
  release(x);
  release(get(a, 200 * MiB));  // what is cached counts, but gives way
  release(get(a, 450 * MiB));
  set_memory_fraction(0, 1);
  release(get(a, 900 * MiB));
}

void garbage_collection() {
  start(GiB);
  set_options("garbage_collection_threshold:0.5");
  CUstream a = new_stream();
  std::vector<void *> addresses;
  std::vector<Block *> blocks;
  for (int i = 0; i < 4; ++i) blocks.push_back(get(a, 120 * MiB));
  for (Block *b : blocks) {
    addresses.push_back(block_data(b));
    release(b);
    release(get(a, 512));  // time passes
  }
  Block *x = get(a, 200 * MiB);
  MemoryStats m = memory_stats(0);
  CHECK(m.gc_passes == 1 && m.gc_reclaimed_bytes == int64_t(240 * MiB), "%ld",
        long(m.gc_reclaimed_bytes));
  // The ones that were used last are still there.
  bool last = false;
  for (auto &s : memory_snapshot()) last |= s.address == addresses[3];
  CHECK(last);
  release(x);
}

void oversize() {
  start(GiB);
  set_options("max_split_size_mb:100");
  CUstream a = new_stream();
  release(get(a, 300 * MiB));
  Block *small = get(a, 50 * MiB);  // does not cut the large one
  CHECK(reserved() == int64_t(350 * MiB));
  Block *large = get(a, 290 * MiB);  // near enough
  CHECK(block_size(large) == 300 * MiB);
  MemoryStats m = memory_stats(0);
  CHECK(m.oversize_allocations.current == 1 && m.oversize_segments.current == 1);
  release(large);
  CHECK(memory_stats(0).oversize_allocations.current == 0);
  Block *middle = get(a, 150 * MiB);  // too far from it
  CHECK(reserved() == int64_t(500 * MiB));
  // Under pressure the unused one goes first, and alone.
  Block *more = get(a, 600 * MiB);
  CHECK(memory_stats(0).oversize_segments.current == 2);
  for (Block *b : {small, middle, more}) release(b);
}

void begin_capture(CUstream s, PoolId pool) {
  CHECK(begin_allocate_to_pool(0, pool, s));
  CHECK(driver.cuStreamBeginCapture(s, CU_STREAM_CAPTURE_MODE_GLOBAL) == CUDA_SUCCESS);
}
CUgraph end_capture(CUstream s, PoolId pool) {
  CUgraph graph = nullptr;
  CHECK(driver.cuStreamEndCapture(s, &graph) == CUDA_SUCCESS, "the capture was broken");
  end_allocate_to_pool(0, pool);
  return graph;
}

void graph_pools() {
  start(4 * GiB);
  CUstream a = new_stream(), b = new_stream();
  int64_t at_start = reserved();
  PoolId pool = new_pool_id();
  begin_capture(a, pool);
  Block *x = get(a, 100 * MiB);  // grows while capturing
  use(a, x);
  // A stream that joins the capture allocates from the pool too.
  order_streams(0, b, 0, a);
  Block *y = get(b, 4 * MiB);
  use(b, y);
  // Used on both and given back: not reused within the capture.
  use(b, x);
  record_stream(x, b);
  void *address = block_data(x);
  release(x);
  Block *z = get(a, 100 * MiB);
  CHECK(block_data(z) != address, "reused inside the capture");
  release(z);
  order_streams(0, a, 0, b);
  release(y);
  CUgraph first = end_capture(a, pool);

  for (auto &s : memory_snapshot()) CHECK(s.pool == pool);
  Block *outside = get(a, 100 * MiB);  // from elsewhere
  CHECK(memory_snapshot(&pool).size() + 1 == memory_snapshot().size());
  int64_t held = 0;
  for (auto &s : memory_snapshot(&pool)) held += int64_t(s.total_size);
  empty_cache(0);
  CHECK(reserved() == held + int64_t(100 * MiB),
        "memory that a graph may replay on was given back");

  // Another graph in the same pool finds its memory there.
  begin_capture(a, pool);
  CHECK(pool_use_count(0, pool) == 2);
  Block *again = get(a, 100 * MiB);
  CHECK(block_data(again) == address || reserved() == held + int64_t(100 * MiB));
  release(again);
  CUgraph second = end_capture(a, pool);
  CHECK(reserved() == held + int64_t(100 * MiB),
        "the second graph did not share the first's memory");

  release_pool(0, pool);
  CHECK(reserved() > int64_t(100 * MiB));
  release_pool(0, pool);
  CHECK(pool_use_count(0, pool) == 0);
  release(outside);
  empty_cache(0);
  CHECK(reserved() == at_start, "%ld", long(reserved()));
  driver.cuGraphDestroy(first);
  driver.cuGraphDestroy(second);
  no_violations();

  // A tensor that outlives its graph keeps its memory, and only that.
  begin_capture(a, pool);
  Block *output = get(a, 30 * MiB);
  release(get(a, 40 * MiB));
  CUgraph third = end_capture(a, pool);
  release_pool(0, pool);
  CHECK(reserved() == int64_t(30 * MiB));
  release(output);
  empty_cache(0);
  CHECK(reserved() == at_start && memory_snapshot().empty());
  driver.cuGraphDestroy(third);
}

void capture_without_memory() {
  start(GiB);
  CUstream a = new_stream(), b = new_stream();
  release(get(b, 600 * MiB));
  PoolId pool = new_pool_id();
  begin_capture(a, pool);
  CHECK(allocate(0, a, 600 * MiB) == nullptr && memory_error_is_oom());
  CHECK(says("A graph is being captured"), "%s", memory_error());
  Block *x = get(a, 100 * MiB);  // the capture goes on
  use(a, x);
  driver.cuGraphDestroy(end_capture(a, pool));
  release(x);
  release_pool(0, pool);
  release(get(a, 600 * MiB));
}

void thread_pools() {
  start(4 * GiB);
  CUstream a = new_stream();
  PoolId pool = new_pool_id();
  CHECK(retain_pool(0, pool));
  CHECK(begin_allocate_thread_to_pool(0, pool));
  Block *inside = get(a, 4096), *other = nullptr;
  std::thread([&] { other = allocate(0, a, 4096); }).join();
  end_allocate_to_pool(0, pool);
  release_pool(0, pool);
  Block *outside = get(a, 4096);
  auto in_pool = memory_snapshot(&pool);
  CHECK(in_pool.size() == 1 && in_pool[0].address == block_data(inside));
  CHECK(block_data(other) != block_data(inside) && pool_use_count(0, pool) == 1);
  for (Block *b : {inside, other, outside}) release(b);
  release_pool(0, pool);
  empty_cache(0);
  CHECK(reserved() == 0);

  // One that lends its memory when there is no other.
  PoolId lender = new_pool_id();
  CHECK(retain_pool(0, lender, true));
  begin_allocate_thread_to_pool(0, lender);
  release(get(a, 3 * GiB));
  end_allocate_to_pool(0, lender);
  Block *borrowed = get(a, 2 * GiB);
  CHECK(memory_snapshot(&lender).size() == 1 && memory_snapshot().size() == 1);
  release(borrowed);
  release_pool(0, lender);
  release_pool(0, lender);

  // One that hands out segments whole.
  PoolId whole = new_pool_id();
  CHECK(retain_pool(0, whole, false, true));
  begin_allocate_thread_to_pool(0, whole);
  Block *segment = get(a, 4096);
  CHECK(block_size(segment) == 2 * MiB);
  end_allocate_to_pool(0, whole);
  release(segment);
}

void expandable() {
  start(GiB);
  set_options("expandable_segments:True");
  CUstream a = new_stream();
  Block *x = get(a, 30 * MiB), *y = get(a, 50 * MiB);
  CHECK(static_cast<char *>(block_data(x)) + 30 * MiB == block_data(y), "not one after the other");
  CHECK(reserved() == int64_t(80 * MiB));
  release(x);
  release(y);
  // What plain segments cannot: both together, and more, at the same place.
  Block *z = get(a, 100 * MiB);
  CHECK(reserved() == int64_t(100 * MiB) && block_data(z) == block_data(x));
  Block *w = get(a, 40 * MiB);
  release(z);
  empty_cache(0);
  CHECK(reserved() == int64_t(40 * MiB), "%ld", long(reserved()));
  // The hole is mapped again.
  Block *v = get(a, 60 * MiB);
  CHECK(block_data(v) == block_data(x) && reserved() == int64_t(100 * MiB));
  CHECK(memory_stats(0).segment[kEverything].current == 1);
  release(v);
  release(w);

  // Failures on the way leave nothing behind.
  empty_cache(0);
  CHECK(reserved() == 0);
  for (const char *function :
       {"cuMemCreate", "cuMemMap", "cuMemSetAccess", "cuMemAddressReserve"}) {
    simulator_fail(function, 1, CUDA_ERROR_OUT_OF_MEMORY, 10);
    Block *b = allocate(0, a, 90 * MiB);
    if (b != nullptr) release(b);
    simulator_clear_failures();
    empty_cache(0);
    CHECK(reserved() == 0, "%s", function);
  }
  CHECK(allocate(0, a, 2 * GiB) == nullptr && memory_error_is_oom());
  release(get(a, 900 * MiB));
  no_violations();

  // In a pool of its own, too; the addresses go with the pool.
  PoolId pool = new_pool_id();
  begin_capture(a, pool);
  Block *p = get(a, 70 * MiB);
  use(a, p);
  driver.cuGraphDestroy(end_capture(a, pool));
  release(p);
  CHECK(memory_snapshot(&pool).size() == 1);
  release_pool(0, pool);
  CHECK(memory_snapshot(&pool).empty());
}

void option_texts() {
  start(GiB);
  const char *good[] = {"",
                        " max_split_size_mb : 64 ",
                        "backend:native,expandable_segments:True,",
                        "roundup_power2_divisions:[256:1,512:2,1024:4,>:8]",
                        "garbage_collection_threshold:0.8,max_non_split_rounding_mb:32",
                        "release_lock_on_cudamalloc:True",
                        "per_process_memory_fraction:0.5"};
  for (const char *text : good) set_options(text);
  const char *bad[][2] = {{"max_split:3", "unknown CUDA allocator option 'max_split'"},
                          {"max_split_size_mb", "not of the form name:value"},
                          {"max_split_size_mb:20", "above 20"},
                          {"max_split_size_mb:1x", "got '1x'"},
                          {"garbage_collection_threshold:1.5", "between 0 and 1"},
                          {"expandable_segments:maybe", "True or False"},
                          {"roundup_power2_divisions:3", "power of two"},
                          {"roundup_power2_divisions:[512:1,256:2]", "power of two"},
                          {"backend:cudaMallocAsync", "native"},
                          {"max_split_size_mb:64,nonsense:1", "unknown"}};
  std::string error;
  set_options("max_split_size_mb:32");
  for (auto &row : bad) {
    CHECK(!set_allocator_options(row[0], &error), "%s was accepted", row[0]);
    CHECK(error.find(row[1]) != std::string::npos, "%s: %s", row[0], error.c_str());
  }
  CHECK(options.max_split_size == 32 * MiB, "a refused text changed something");
}

void uncached() {
  start(GiB);
  set_caching(false);
  CUstream a = new_stream();
  Block *x = get(a, 1000);
  CHECK(block_size(x) == 1000 && reserved() == 1000);
  Block *y = get(a, 3 * MiB + 5);
  record_stream(y, new_stream());
  release(x);
  CHECK(reserved() == int64_t(3 * MiB + 5));
  release(y);
  CHECK(reserved() == 0);
  set_caching(true);
}

void statistics() {
  start(4 * GiB);
  CUstream a = new_stream(), b = new_stream();
  Block *x = get(a, 100 * MiB);
  release(x);
  Block *y = get(b, 60 * MiB);
  MemoryUse use = memory_use(0);
  // Of two streams that were never busy together the peak is the larger one, not the sum.
  CHECK(use.max_allocated == int64_t(100 * MiB), "%ld", long(use.max_allocated));
  CHECK(use.allocated == int64_t(60 * MiB) && use.reserved == int64_t(160 * MiB));
  CHECK(memory_stats(0).allocated_bytes[kEverything].peak == int64_t(100 * MiB));
  reset_peak_stats(0);
  CHECK(memory_use(0).max_allocated == int64_t(60 * MiB));
  reset_accumulated_stats(0);
  MemoryStats m = memory_stats(0);
  CHECK(m.allocated_bytes[kEverything].allocated == 0 && m.num_device_alloc == 0);
  CHECK(m.allocated_bytes[kEverything].current == int64_t(60 * MiB));
  release(y);
  m = memory_stats(0);
  CHECK(m.allocated_bytes[kEverything].freed == int64_t(60 * MiB));
  CHECK(m.allocation[kEverything].freed == 1 && m.requested_bytes[kEverything].current == 0);
}

uint64_t seven() { return 7; }

void history() {
  start(GiB);
  CUstream a = new_stream(), b = new_stream();
  HistorySettings on;
  on.on = on.entries = true;
  on.stacks = Stacks::all;
  on.max_entries = 6;
  on.skip = 1u << unsigned(Action::free_requested);
  on.gather = seven;
  Block *x = get(a, 1000);
  record_memory_history(on, true);
  Block *y = get(a, 1000);
  release(y);
  Block *z = get(a, 30 * MiB);
  std::vector<Action> actions;
  for (const TraceEntry &e : memory_trace(0)) {
    actions.push_back(e.action);
    CHECK(e.history == 7 && e.stream == a && e.time_us > 0);
  }
  CHECK((actions == std::vector<Action>{Action::alloc, Action::free_completed,
                                        Action::segment_alloc, Action::alloc}));
  CHECK(allocation_history(block_data(z)) == 7 && allocation_history(block_data(x)) == 0);
  record_stream(z, b);
  release(z);
  empty_cache(0);
  CHECK(allocate(0, a, 2 * GiB) == nullptr);
  auto entries = memory_trace(0);
  CHECK(entries.size() == 6, "the limit is 6, there are %zu", entries.size());
  CHECK(entries.back().action == Action::oom && entries.back().size == 2 * GiB);
  CHECK(entries.back().device_free > 0);
  CHECK(entries[4].action == Action::segment_free && entries[4].size == 30 * MiB);
  record_memory_history({}, true);
  release(get(a, 512));
  CHECK(memory_trace(0).empty());
  release(x);
}

void host_memory() {
  start(GiB);
  simulator_set_completion(kCompleteWhenAwaited, 1);
  CUstream a = new_stream();
  Block *device = get(a, 4096);
  HostBlock *x = host_allocate(3000);
  CHECK(x != nullptr && host_block_size(x) == 4096, "%s", memory_error());
  void *address = host_block_data(x);
  CHECK(host_find(static_cast<char *>(address) + 4095) == x && host_find(&device) == nullptr);
  CHECK(driver.cuMemcpyHtoDAsync(CUdeviceptr(block_data(device)), address, 3000, a) ==
        CUDA_SUCCESS);
  host_record_stream(x, 0, a);
  host_release(x);
  HostBlock *y = host_allocate(3000);
  CHECK(host_block_data(y) != address, "reused under a copy");
  host_release(y);
  CHECK(driver.cuStreamSynchronize(a) == CUDA_SUCCESS);
  HostBlock *z = host_allocate(3000), *w = host_allocate(3000);
  CHECK(host_block_data(z) == address || host_block_data(w) == address, "it never comes back");
  HostMemoryStats m = host_memory_stats();
  CHECK(m.active_requests.current == 2 && m.num_host_alloc == 2 &&
        m.allocated_bytes.current == 8192);

  // Under capture it is kept until the capture is over.
  CHECK(driver.cuStreamBeginCapture(a, CU_STREAM_CAPTURE_MODE_GLOBAL) == CUDA_SUCCESS);
  host_record_stream(z, 0, a);
  host_release(z);
  CHECK(host_memory_stats().active_requests.current == 2);
  CUgraph graph = nullptr;
  CHECK(driver.cuStreamEndCapture(a, &graph) == CUDA_SUCCESS);
  driver.cuGraphDestroy(graph);
  host_release(w);
  w = host_allocate(3000);
  CHECK(driver.cuStreamSynchronize(a) == CUDA_SUCCESS);
  host_release(w);
  host_empty_cache();
  host_empty_cache();
  CHECK(host_memory_stats().allocations.current == 0);
  simulator_fail("cuMemHostAlloc", 1, CUDA_ERROR_OUT_OF_MEMORY, 2);
  CHECK(host_allocate(4096) == nullptr && memory_error_is_oom());
  release(device);
  no_violations();
}

// A stream does not wait for another that the driver keeps.
void no_waiting() {
  start(GiB);
  CUstream a = new_stream();
  release(get(a, 4096));
  auto time = [&] {
    auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < 100000; ++i) release(allocate(0, a, 4096));
    return std::chrono::steady_clock::now() - begin;
  };
  driver.block_allocated = nullptr;
  driver.block_released = nullptr;
  time();
  // Somebody is inside the driver for a long time.
  static std::atomic<bool> inside, leave;
  static decltype(driver.cuMemAlloc) real;
  real = driver.cuMemAlloc;
  driver.cuMemAlloc = [](CUdeviceptr *address, size_t bytes) {
    inside = true;
    while (!leave) std::this_thread::yield();
    return real(address, bytes);
  };
  std::thread slow([] {
    use_device(0);
    release(allocate(0, new_stream(), 64 * MiB));
  });
  while (!inside) std::this_thread::yield();
  time();  // would not end
  leave = true;
  slow.join();
}

const struct {
  const char *name;
  void (*run)();
} scenarios[] = {{"sizes", sizes},
                 {"joins", joins},
                 {"streams", streams},
                 {"other_streams", other_streams},
                 {"out_of_memory", out_of_memory},
                 {"fragmented", fragmented},
                 {"fraction", fraction},
                 {"garbage_collection", garbage_collection},
                 {"oversize", oversize},
                 {"graph_pools", graph_pools},
                 {"capture_without_memory", capture_without_memory},
                 {"thread_pools", thread_pools},
                 {"expandable", expandable},
                 {"option_texts", option_texts},
                 {"uncached", uncached},
                 {"statistics", statistics},
                 {"history", history},
                 {"host_memory", host_memory},
                 {"no_waiting", no_waiting}};

}  // namespace

bool scenario(const char *name) {
  for (auto &s : scenarios) {
    if (strcmp(s.name, name) != 0) continue;
    s.run();
    return true;
  }
  return false;
}

void list_scenarios() {
  for (auto &s : scenarios) printf("%s\n", s.name);
}

// --- time -----------------------------------------------------------------------------------------

namespace {

double nanoseconds(long count, const std::function<void()> &pair) {
  double best = 1e9;
  for (int round = 0; round < 7; ++round) {
    auto begin = std::chrono::steady_clock::now();
    for (long i = 0; i < count; ++i) pair();
    std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - begin;
    best = std::min(best, took.count() / double(count));
  }
  return best;
}

}  // namespace

void measure() {
  start(GiB);
  driver.block_allocated = nullptr;
  driver.block_released = nullptr;
  CUstream a = new_stream(), b = new_stream();
  auto pair = [](CUstream s, size_t bytes) { return [=] { release(allocate(0, s, bytes)); }; };
  for (size_t bytes : {size_t(512), 64 * KiB, 4 * MiB, 64 * MiB}) {
    printf("one_stream_%zu %.1f\n", bytes, nanoseconds(1000000, pair(a, bytes)));
  }
  release(allocate(0, b, 512));
  printf("two_streams_512 %.1f\n", nanoseconds(1000000, pair(a, 512)));
  double other = 0;
  std::thread t([&] { other = nanoseconds(1000000, pair(b, 512)); });
  double one = nanoseconds(1000000, pair(a, 512));
  t.join();
  printf("two_threads_512 %.1f\n", std::max(one, other));
  std::vector<Block *> blocks(100);
  printf("hundred_sizes %.1f\n", nanoseconds(10000, [&] {
                                   for (size_t i = 0; i < 100; ++i) {
                                     blocks[i] = allocate(0, a, 512 * (i + 1));
                                   }
                                   for (Block *x : blocks) release(x);
                                 }) / 100);
  size_t next = 0;
  printf("never_the_same_size %.1f\n", nanoseconds(1000000, [&] {
           next = next % 1000 + 1;
           release(allocate(0, a, 512 * next));
         }));
}

}  // namespace model
