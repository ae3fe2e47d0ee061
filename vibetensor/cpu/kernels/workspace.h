// Working memory of a kernel: a stack per thread whose memory stays for the next call.
#ifndef VT_CPU_WORKSPACE_H
#define VT_CPU_WORKSPACE_H

#include "vibetensor/cpu/kernel_utils.h"

namespace VT_NS {

// Blocks are linked from the newest to the oldest; only the newest is taken from.
struct WorkspaceStack {
  struct Block {
    Block *older;
    size_t size; /* of the data, which begins kHeader bytes in */
  };
  static constexpr size_t kHeader = 64;
  // What a thread may keep while no kernel runs on it.
  static constexpr size_t kKeep = size_t(8) << 20;

  Block *newest = nullptr;
  size_t used = 0; /* of the newest block */
  int depth = 0;   /* frames that are open */

  ~WorkspaceStack() { release(); }

  void release() {
    while (newest) {
      Block *older = newest->older;
      free(newest);
      newest = older;
    }
    used = 0;
  }

  bool grow(size_t bytes) {
    size_t size = newest ? 2 * newest->size : size_t(1) << 16;
    while (size < bytes) size *= 2;
    // Past the size that is kept anyway, ask for no more than is needed.
    if (size > kKeep) size = (bytes + 63) & ~size_t(63);
    Block *b = static_cast<Block *>(aligned_alloc(64, kHeader + size));
    if (!b) return false;
    b->older = newest;
    b->size = size;
    newest = b;
    used = 0;
    return true;
  }
};

inline WorkspaceStack &thread_workspace() {
  static thread_local WorkspaceStack stack;
  return stack;
}

// A frame on the thread's stack: what it handed out is free again when it goes out of scope. Frames
// nest.
class Workspace {
 public:
  Workspace() : stack_(thread_workspace()), block_(stack_.newest), used_(stack_.used) {
    stack_.depth++;
  }

  ~Workspace() {
    stack_.depth--;
    if (VT_UNLIKELY(stack_.newest != block_)) {
      shrink();
    } else {
      stack_.used = used_;
    }
  }
  Workspace(const Workspace &) = delete;
  Workspace &operator=(const Workspace &) = delete;

  // Room for n elements, aligned to 64 bytes, contents undefined; NULL when memory ran out.
  template <class T>
  T *take(int64_t n) {
    const size_t bytes = (static_cast<size_t>(n) * sizeof(T) + 63) & ~size_t(63);
    if (VT_UNLIKELY(!stack_.newest || stack_.newest->size - stack_.used < bytes)) {
      if (!stack_.grow(bytes)) return nullptr;
    }
    char *p = reinterpret_cast<char *>(stack_.newest) + WorkspaceStack::kHeader + stack_.used;
    stack_.used += bytes;
    return reinterpret_cast<T *>(p);
  }

 private:
  // Blocks were added. The outermost frame keeps the newest, the largest, unless it is too large;
  // an inner one goes back to the block it began with.
  VT_NOINLINE void shrink() {
    using Block = WorkspaceStack::Block;
    if (stack_.depth == 0) {
      Block *keep = stack_.newest->size <= WorkspaceStack::kKeep ? stack_.newest : block_;
      while (stack_.newest) {
        Block *b = stack_.newest;
        stack_.newest = b->older;
        if (b != keep) free(b);
      }
      if (keep) keep->older = nullptr;
      stack_.newest = keep;
      stack_.used = 0;
      return;
    }
    while (stack_.newest != block_) {
      Block *b = stack_.newest;
      stack_.newest = b->older;
      free(b);
    }
    stack_.used = used_;
  }

  WorkspaceStack &stack_;
  WorkspaceStack::Block *block_;
  size_t used_;
};

}  // namespace VT_NS

#endif
