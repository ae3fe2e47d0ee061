/* The simulated driver: capture of streams into graphs, and graphs. */
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "vibetensor/cuda/simulator_state.h"

namespace vt_cuda {
namespace sim {

static thread_local CUstreamCaptureMode thread_mode = CU_STREAM_CAPTURE_MODE_GLOBAL;

void invalidate(Capture &c) { c.invalid = true; }

CUresult forbidden_by_capture() {
  if (thread_mode == CU_STREAM_CAPTURE_MODE_RELAXED) return CUDA_SUCCESS;
  CUresult result = CUDA_SUCCESS;
  for (auto &c : state().captures) {
    if (c->mode == CU_STREAM_CAPTURE_MODE_RELAXED) continue;
    const bool own = c->thread == std::this_thread::get_id();
    const bool global =
        c->mode == CU_STREAM_CAPTURE_MODE_GLOBAL && thread_mode == CU_STREAM_CAPTURE_MODE_GLOBAL;
    if (!own && !global) continue;
    invalidate(*c);
    result = CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  }
  return result;
}

CUresult capture_state(const Stream &s) {
  return s.capture && s.capture->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
}

/* What runs in a capture does not run now: nothing eager comes before or after it. */
static void enter_capture(Stream &s, Capture &c, const Clock &after) {
  s.capture = &c;
  s.in_capture = Lane();
  s.in_capture.index = new_lane();
  s.in_capture.clock = after;
  c.streams.push_back(&s);
}

static Clock everything() {
  State &st = state();
  Clock all;
  for (auto &device : st.devices) join(all, device->legacy.own.clock);
  for (Stream *s : st.streams) join(all, s->own.clock);
  return all;
}

CUresult cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode *mode) {
  VT_SIMULATE(cuThreadExchangeStreamCaptureMode);
  std::swap(*mode, thread_mode);
  return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream handle, CUstreamCaptureMode mode) {
  VT_SIMULATE(cuStreamBeginCapture);
  State &st = state();
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (s->legacy) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  if (s->capture) return CUDA_ERROR_ILLEGAL_STATE;
  st.captures.push_back(std::make_unique<Capture>());
  Capture &c = *st.captures.back();
  c.id = st.next_capture++;
  c.origin = s;
  c.mode = mode;
  c.thread = std::this_thread::get_id();
  enter_capture(*s, c, everything());
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream handle, CUgraph *graph) {
  VT_SIMULATE(cuStreamEndCapture);
  State &st = state();
  *graph = nullptr;
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (!s->capture) return CUDA_ERROR_ILLEGAL_STATE;
  Capture *c = s->capture;
  if (c->origin != s) return CUDA_ERROR_STREAM_CAPTURE_UNMATCHED;
  if (c->mode != CU_STREAM_CAPTURE_MODE_RELAXED && c->thread != std::this_thread::get_id())
    return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  CUresult result = c->invalid ? CUDA_ERROR_STREAM_CAPTURE_INVALIDATED : CUDA_SUCCESS;
  for (Stream *member : c->streams) {
    const Lane &lane = member->in_capture;
    if (result == CUDA_SUCCESS && !covers(s->in_capture.clock, lane.index, lane.count))
      result = CUDA_ERROR_STREAM_CAPTURE_UNJOINED;
  }
  for (Stream *member : c->streams) {
    const Lane &lane = member->in_capture;
    if (st.host.size() <= static_cast<size_t>(lane.index)) st.host.resize(lane.index + 1);
    st.host[lane.index] = lane.count;
    member->capture = nullptr;
  }
  if (result == CUDA_SUCCESS) {
    st.graphs[c->graph.get()] = c->graph;
    *graph = reinterpret_cast<CUgraph>(c->graph.get());
  }
  auto at = std::find_if(st.captures.begin(), st.captures.end(),
                         [c](const std::unique_ptr<Capture> &p) { return p.get() == c; });
  st.captures.erase(at);
  return result;
}

/* The legacy stream cannot be asked while a blocking stream is captured: that breaks the capture. */
static CUresult implicit(const Stream &s) {
  if (!s.legacy) return CUDA_SUCCESS;
  for (auto &c : state().captures)
    for (Stream *member : c->streams)
      if (member->blocking && member->device == s.device) {
        invalidate(*c);
        return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
      }
  return CUDA_SUCCESS;
}

CUresult cuStreamIsCapturing(CUstream handle, CUstreamCaptureStatus *status) {
  VT_SIMULATE(cuStreamIsCapturing);
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (CUresult error = implicit(*s)) return error;
  *status = !s->capture           ? CU_STREAM_CAPTURE_STATUS_NONE
            : s->capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                  : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  return CUDA_SUCCESS;
}

CUresult cuStreamGetCaptureInfo(CUstream handle, CUstreamCaptureStatus *status, cuuint64_t *id,
                                CUgraph *graph, const CUgraphNode **dependencies,
                                const CUgraphEdgeData **edges, size_t *num_dependencies) {
  VT_SIMULATE(cuStreamGetCaptureInfo);
  Stream *s = find_stream(handle);
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  if (CUresult error = implicit(*s)) return error;
  *status = !s->capture           ? CU_STREAM_CAPTURE_STATUS_NONE
            : s->capture->invalid ? CU_STREAM_CAPTURE_STATUS_INVALIDATED
                                  : CU_STREAM_CAPTURE_STATUS_ACTIVE;
  if (id) *id = s->capture ? s->capture->id : 0;
  if (graph) *graph = s->capture ? reinterpret_cast<CUgraph>(s->capture->graph.get()) : nullptr;
  if (dependencies) *dependencies = nullptr;
  if (edges) *edges = nullptr;
  if (num_dependencies) *num_dependencies = 0;
  return CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream handle, CUevent event, unsigned flags) {
  VT_SIMULATE(cuStreamWaitEvent);
  State &st = state();
  Stream *s = find_stream(handle);
  Event *e = reinterpret_cast<Event *>(event);
  if (!s || !st.events.count(e)) return CUDA_ERROR_INVALID_HANDLE;
  if (CUresult broken = capture_state(*s)) return broken;
  if (!e->recorded) return CUDA_SUCCESS;
  if (e->capture == 0) {
    if (s->capture && !(flags & CU_EVENT_WAIT_EXTERNAL)) {
      invalidate(*s->capture);
      return CUDA_ERROR_STREAM_CAPTURE_ISOLATION;
    }
  } else if (!s->capture || s->capture->id != e->capture) {
    Capture *from = nullptr;
    for (auto &c : st.captures)
      if (c->id == e->capture) from = c.get();
    /* That capture has ended, or the stream is part of another. */
    if (!from) return CUDA_ERROR_INVALID_VALUE;
    if (s->capture) {
      invalidate(*s->capture);
      invalidate(*from);
      return CUDA_ERROR_STREAM_CAPTURE_MERGE;
    }
    if (s->legacy) {
      invalidate(*from);
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
    enter_capture(*s, *from, e->clock);
  }
  tick(*s);
  join(s->lane().clock, e->clock);
  s->time = std::max(s->time, e->time);
  if (st.recording) {
    SimulatorLogEntry entry{};
    entry.kind = "wait";
    entry.stream = s->legacy ? 0 : reinterpret_cast<uintptr_t>(s);
    entry.captured = s->capture != nullptr;
    st.log.push_back(entry);
  }
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  VT_SIMULATE(cuGraphDestroy);
  return state().graphs.erase(reinterpret_cast<Graph *>(graph)) ? CUDA_SUCCESS
                                                                : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphGetNodes(CUgraph graph, CUgraphNode *nodes, size_t *n) {
  VT_SIMULATE(cuGraphGetNodes);
  auto at = state().graphs.find(reinterpret_cast<Graph *>(graph));
  if (at == state().graphs.end()) return CUDA_ERROR_INVALID_VALUE;
  const size_t count = at->second->nodes.size();
  if (nodes)
    for (size_t i = 0; i < *n; ++i)
      nodes[i] = i < count ? reinterpret_cast<CUgraphNode>(&at->second->nodes[i]) : nullptr;
  *n = nodes ? std::min(*n, count) : count;
  return CUDA_SUCCESS;
}

CUresult cuGraphDebugDotPrint(CUgraph graph, const char *path, unsigned) {
  VT_SIMULATE(cuGraphDebugDotPrint);
  auto at = state().graphs.find(reinterpret_cast<Graph *>(graph));
  if (at == state().graphs.end()) return CUDA_ERROR_INVALID_VALUE;
  FILE *file = fopen(path, "w");
  if (!file) return CUDA_ERROR_OPERATING_SYSTEM;
  fprintf(file, "digraph dot {\n");
  for (size_t i = 0; i < at->second->nodes.size(); ++i)
    fprintf(file, "\"%zu\" [label=\"%s %s\"];\n", i, at->second->nodes[i].kind,
            at->second->nodes[i].name.c_str());
  fprintf(file, "}\n");
  fclose(file);
  return CUDA_SUCCESS;
}

CUresult cuGraphInstantiate(CUgraphExec *exec, CUgraph graph, unsigned long long) {
  VT_SIMULATE_UNSAFE(cuGraphInstantiate);
  auto at = state().graphs.find(reinterpret_cast<Graph *>(graph));
  if (at == state().graphs.end()) return CUDA_ERROR_INVALID_VALUE;
  Exec *e = new Exec{at->second};
  state().execs.insert(e);
  *exec = reinterpret_cast<CUgraphExec>(e);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  VT_SIMULATE(cuGraphExecDestroy);
  Exec *e = reinterpret_cast<Exec *>(exec);
  if (!state().execs.erase(e)) {
    violation("lifetime: a graph is destroyed that does not exist");
    return CUDA_ERROR_INVALID_VALUE;
  }
  delete e;
  return CUDA_SUCCESS;
}

CUresult cuGraphUpload(CUgraphExec exec, CUstream) {
  VT_SIMULATE(cuGraphUpload);
  return state().execs.count(reinterpret_cast<Exec *>(exec)) ? CUDA_SUCCESS
                                                             : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream handle) {
  VT_SIMULATE(cuGraphLaunch);
  State &st = state();
  Stream *s = find_stream(handle);
  Exec *e = reinterpret_cast<Exec *>(exec);
  if (!st.execs.count(e)) {
    violation("lifetime: a graph is launched that does not exist");
    return CUDA_ERROR_INVALID_VALUE;
  }
  if (!s) return CUDA_ERROR_INVALID_HANDLE;
  const std::shared_ptr<Graph> graph = e->graph; /* a host function in it may destroy the exec */
  if (s->capture) {
    for (const Work &node : graph->nodes)
      if (CUresult error = enqueue(lock, *s, node)) return error;
    return CUDA_SUCCESS;
  }
  ++st.counters.graph_launches;
  replay(lock, *s, *graph);
  return CUDA_SUCCESS;
}

}  // namespace sim
}  // namespace vt_cuda
