/* The simulated driver: what comes before what, and whether uses of memory respect it. */
#include <stdarg.h>
#include <stdio.h>

#include <algorithm>

#include "vibetensor/cuda/simulator_state.h"

namespace vt_cuda {
namespace sim {

void join(Clock &into, const Clock &other) {
  if (into.size() < other.size()) into.resize(other.size());
  for (size_t i = 0; i < other.size(); ++i) into[i] = std::max(into[i], other[i]);
}

bool covers(const Clock &clock, int lane, uint32_t count) {
  return static_cast<size_t>(lane) < clock.size() ? clock[lane] >= count : count == 0;
}

bool covers(const Clock &clock, const Clock &other) {
  for (size_t i = 0; i < other.size(); ++i)
    if (!covers(clock, static_cast<int>(i), other[i])) return false;
  return true;
}

void Uses::set(int lane, uint32_t count) {
  for (auto &use : by_lane)
    if (use.first == lane) {
      use.second = std::max(use.second, count);
      return;
    }
  by_lane.emplace_back(lane, count);
}

void Uses::join(const Uses &other) {
  for (const auto &use : other.by_lane) set(use.first, use.second);
}

int Uses::missing_from(const Clock &clock) const {
  for (const auto &use : by_lane)
    if (!covers(clock, use.first, use.second)) return use.first;
  return -1;
}

int new_lane() { return state().num_lanes++; }

void violation(const char *format, ...) {
  /* A loop that is wrong should not fill the memory. */
  constexpr size_t kMost = 1000;
  if (state().violations.size() >= kMost) return;
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  state().violations.push_back(text);
}

uint32_t tick(Stream &s) {
  Lane &lane = s.lane();
  join(lane.clock, state().host);
  if (!s.capture && s.blocking) {
    Stream &legacy = state().devices[s.device]->legacy;
    if (&s != &legacy) {
      join(lane.clock, legacy.own.clock);
    } else {
      for (Stream *other : state().streams)
        if (other->device == s.device && other->blocking && !other->capture)
          join(lane.clock, other->own.clock);
    }
  }
  ++lane.count;
  if (lane.clock.size() <= static_cast<size_t>(lane.index)) lane.clock.resize(lane.index + 1);
  lane.clock[lane.index] = lane.count;
  s.time += 1;
  return lane.count;
}

void host_learns(const Clock &clock) { join(state().host, clock); }

static void carry_out(Lock &lock, const Work &work) {
  if (!work.effect) return;
  if (!work.host_function) return work.effect();
  /* It may wait for a thread that is about to call the driver. */
  lock.unlock();
  work.effect();
  lock.lock();
}

void complete(Lock &lock, const Clock &clock) {
  State &st = state();
  join(st.done, clock);
  /* In the order of the calls, which is one that the dependencies allow. A host function may let
   * others in, so the search starts again after each. */
  for (;;) {
    auto next = std::find_if(st.pending.begin(), st.pending.end(),
                             [&](const Pending &p) { return covers(st.done, p.lane, p.count); });
    if (next == st.pending.end()) return;
    Work work = std::move(next->work);
    st.pending.erase(next);
    carry_out(lock, work);
  }
}

bool finished(Lock &lock, const Clock &clock) {
  State &st = state();
  if (st.completion == kCompleteAtOnce || covers(st.done, clock)) return true;
  if (st.completion == kCompleteWhenAwaited) return false;
  st.random = st.random * 6364136223846793005u + 1442695040888963407u;
  if (st.random >> 63) return false;
  complete(lock, clock);
  return true;
}

namespace {

const char *lane_owner(int lane, char *text, size_t bytes) {
  State &st = state();
  for (auto &device : st.devices)
    if (device->legacy.own.index == lane) {
      snprintf(text, bytes, "the default stream of device %d", device->index);
      return text;
    }
  for (Stream *s : st.streams)
    if (s->own.index == lane || (s->capture && s->in_capture.index == lane)) {
      snprintf(text, bytes, "stream %#llx",
               static_cast<unsigned long long>(reinterpret_cast<uintptr_t>(s)));
      return text;
    }
  snprintf(text, bytes, "a captured graph or a destroyed stream");
  return text;
}

void unordered(const char *what, uintptr_t address, const Stream &s, int other_lane,
               const Work &work) {
  char other[64], here[64];
  violation("order: %s%s%s on %s uses the block at %#llx, %s by %s, with nothing between them",
            work.kind, work.name.empty() ? "" : " ", work.name.c_str(),
            lane_owner(const_cast<Stream &>(s).lane().index, here, sizeof here),
            static_cast<unsigned long long>(address), what,
            lane_owner(other_lane, other, sizeof other));
}

/* The block around an address; the segment's own extent where the allocator does not speak. */
Extent *extent_of(uintptr_t address, Segment &segment, uintptr_t segment_begin, uintptr_t *begin) {
  State &st = state();
  auto at = st.blocks.upper_bound(address);
  if (at != st.blocks.begin() && address < (--at)->second.end) {
    *begin = at->first;
    return &at->second;
  }
  if (segment.has_blocks) return nullptr;
  *begin = segment_begin;
  return &segment.extent;
}

}  // namespace

void touch(Stream &s, const Touch &t, const Work &work, bool replayed) {
  State &st = state();
  Lane &lane = s.lane();
  auto segment = find_segment(t.address);
  if (segment == st.segments.end()) {
    auto gone = st.freed.upper_bound(t.address);
    if (gone != st.freed.begin() && t.address < (--gone)->second)
      violation("lifetime: %s %s uses %#llx, which was freed", work.kind, work.name.c_str(),
                static_cast<unsigned long long>(t.address));
    return;
  }
  if (!segment->second.accessible)
    violation("lifetime: %s %s uses %#llx, which is mapped without access", work.kind,
              work.name.c_str(), static_cast<unsigned long long>(t.address));
  uintptr_t begin = 0;
  Extent *e = extent_of(t.address, segment->second, segment->first, &begin);
  if (!e) {
    if (!replayed) {
      violation("lifetime: %s %s uses %#llx, which the allocator has not handed out", work.kind,
                work.name.c_str(), static_cast<unsigned long long>(t.address));
      return;
    }
    /* A temporary of the graph: its block was given back while capturing. */
    auto at = st.history.upper_bound(t.address);
    if (at == st.history.begin() || t.address >= (--at)->second.first)
      at = st.history.emplace(t.address, std::make_pair(t.address + 1, Uses())).first;
    at->second.second.set(lane.index, lane.count);
    return;
  }
  const bool first = e->uses.by_lane.empty();
  const bool write = t.kind == kWrite || (t.kind == kUnknown && (first || st.strict));
  int other = e->previous.missing_from(lane.clock);
  if (other >= 0) unordered("which was freed and used before", begin, s, other, work);
  if (e->write_lane >= 0 && !covers(lane.clock, e->write_lane, e->write_count))
    unordered("written", begin, s, e->write_lane, work);
  else if (write && (other = e->uses.missing_from(lane.clock)) >= 0)
    unordered("used", begin, s, other, work);
  e->uses.set(lane.index, lane.count);
  if (write || first) {
    e->write_lane = lane.index;
    e->write_count = lane.count;
  }
}

static void log(const Stream &s, const Work &work, bool captured) {
  State &st = state();
  if (!st.recording) return;
  SimulatorLogEntry entry{work.kind, work.name,  {},       {}, work.shared_bytes,
                          0,         work.bytes, captured, {}};
  std::copy(work.grid, work.grid + 3, entry.grid);
  std::copy(work.block, work.block + 3, entry.block);
  entry.stream = s.legacy ? 0 : reinterpret_cast<uintptr_t>(&s);
  for (const Touch &t : work.touches) {
    auto segment = find_segment(t.address);
    uintptr_t begin = 0;
    if (segment != st.segments.end() &&
        extent_of(t.address, segment->second, segment->first, &begin))
      entry.touched.push_back(begin);
  }
  st.log.push_back(std::move(entry));
}

static void tally(const Work &work) {
  SimulatorCounters &c = state().counters;
  const std::string kind = work.kind;
  if (kind == "launch") ++c.launches;
  if (kind == "copy") ++c.copies;
  if (kind == "memset") ++c.memsets;
}

CUresult enqueue(Lock &lock, Stream &s, Work work) {
  State &st = state();
  if (s.capture) {
    if (CUresult broken = capture_state(s)) return broken;
    tick(s);
    /* The first use of a block in a graph stays a write in every replay. */
    for (Touch &t : work.touches) {
      auto segment = find_segment(t.address);
      uintptr_t begin = 0;
      Extent *e = segment == st.segments.end()
                      ? nullptr
                      : extent_of(t.address, segment->second, segment->first, &begin);
      if (t.kind == kUnknown && e && e->uses.by_lane.empty()) t.kind = kWrite;
      touch(s, t, work, false);
    }
    log(s, work, true);
    s.capture->graph->nodes.push_back(std::move(work));
    return CUDA_SUCCESS;
  }
  if (s.blocking)
    for (auto &c : st.captures)
      for (Stream *member : c->streams)
        if (member->blocking && member->device == s.device && (s.legacy || member->legacy)) {
          invalidate(*c);
          return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
        }
  const uint32_t count = tick(s);
  for (const Touch &t : work.touches) touch(s, t, work, false);
  log(s, work, false);
  tally(work);
  if (st.completion == kCompleteAtOnce)
    carry_out(lock, work);
  else
    st.pending.push_back({s.own.index, count, std::move(work)});
  return CUDA_SUCCESS;
}

void replay(Lock &lock, Stream &s, const Graph &graph) {
  State &st = state();
  for (const Work &node : graph.nodes) {
    const uint32_t count = tick(s);
    for (const Touch &t : node.touches) touch(s, t, node, true);
    log(s, node, true);
    tally(node);
    if (st.completion == kCompleteAtOnce)
      carry_out(lock, node);
    else
      st.pending.push_back({s.own.index, count, node});
  }
}

}  // namespace sim
}  // namespace vt_cuda
