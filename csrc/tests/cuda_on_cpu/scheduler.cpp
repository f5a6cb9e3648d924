// Runs the threads of one CUDA block as fibers. Compiled WITHOUT sanitizers: it tells them about its fibers itself.
//   CUDA_ON_CPU_ORDER = up | down | random[:seed]   the order in which ready threads, and blocks, are run
//   CUDA_ON_CPU_RACES = block | grid                with ThreadSanitizer: blocks ordered one after another, or not
// `grid` also reports races between blocks. Static __shared__ variables are reused by each block there and must be
// suppressed; this project names every one of them block_shared_*.
#include <cuda_runtime.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <vector>

#if defined(__x86_64__) && !defined(CUDA_ON_CPU_UCONTEXT)
#define CUDA_ON_CPU_ASSEMBLY 1  // a switch without a system call
#else
#define CUDA_ON_CPU_ASSEMBLY 0
#endif
#define CUDA_ON_CPU_WEAK __attribute__((weak))  // present only where the sanitizer is linked in

extern "C" {
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

CUDA_ON_CPU_WEAK void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
CUDA_ON_CPU_WEAK void __sanitizer_finish_switch_fiber(void* fake_stack, const void** bottom, size_t* size);
CUDA_ON_CPU_WEAK void __asan_unpoison_memory_region(const volatile void*, size_t);
CUDA_ON_CPU_WEAK void* __tsan_get_current_fiber();
CUDA_ON_CPU_WEAK void* __tsan_create_fiber(unsigned flags);
CUDA_ON_CPU_WEAK void __tsan_switch_to_fiber(void*, unsigned flags);
CUDA_ON_CPU_WEAK void __tsan_acquire(void*);
CUDA_ON_CPU_WEAK void __tsan_release(void*);

#if CUDA_ON_CPU_ASSEMBLY
// Saves the callee-saved registers and the stack pointer, loads those of another context.
void cuda_on_cpu_switch(void** save_stack_pointer, void* load_stack_pointer);
asm(R"(
.text
.globl cuda_on_cpu_switch
.type cuda_on_cpu_switch,@function
cuda_on_cpu_switch:
  pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
  ret
.size cuda_on_cpu_switch,.-cuda_on_cpu_switch
)");
#endif
}

namespace {

constexpr size_t kStackBytes = 256 * 1024;
constexpr unsigned kNoSync = 1;         // __tsan_switch_to_fiber_no_sync: a switch orders nothing
constexpr unsigned kMaskGroups = 34;    // distinct masks that one warp may use during a block
constexpr unsigned kMaxFibers = 7000;   // what ThreadSanitizer holds
constexpr size_t kBarrierTokens = 2;    // happens-before tokens: two parities of the block barrier,
constexpr size_t kWarpTokens = 2 * 34;  // two of each mask group of each warp
constexpr size_t kTokens = kBarrierTokens + 32 * kWarpTokens;

struct Context {
#if CUDA_ON_CPU_ASSEMBLY
  void* stack_pointer = nullptr;
  void start(char* stack, void (*entry)()) {
    auto** top = reinterpret_cast<void**>(stack + kStackBytes - 64);
    *--top = nullptr;  // where entry would return to: it never does
    *--top = reinterpret_cast<void*>(entry);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    stack_pointer = top;
  }
  void switch_to(Context& other) { cuda_on_cpu_switch(&stack_pointer, other.stack_pointer); }
#else
  ucontext_t context;
  void start(char* stack, void (*entry)()) {
    getcontext(&context);
    context.uc_stack.ss_sp = stack;
    context.uc_stack.ss_size = kStackBytes;
    context.uc_link = nullptr;
    makecontext(&context, entry, 0);
  }
  void switch_to(Context& other) { swapcontext(&context, &other.context); }
#endif
};

enum class State { kReady, kAtBarrier, kInWarp, kDone };

struct Fiber {
  Context context;
  char* stack = nullptr;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* tsan = nullptr;
  State state = State::kDone;
  uint3 thread{};
  unsigned rank = 0;
  uint64_t meetings = 0;       // barriers and warp intrinsics that it has come to
  const char* site = nullptr;  // of the block barrier it waits at
  const char* kind = "";       // of the warp intrinsic it waits in
};

// Lanes of one warp that name the same mask. No heap inside fibers: ThreadSanitizer would watch it.
struct MaskGroup {
  unsigned mask;
  const char* kind;
  unsigned arrived, done[2];
  int parity;
  uint64_t value[2][32];
};
struct Warp {
  unsigned exited, used;
  MaskGroup group[kMaskGroups];
};

struct Machine {
  std::mutex mutex;  // one launch at a time
  std::vector<Fiber> fibers;
  std::unique_ptr<Warp[]> warps{new Warp[32]};
  std::vector<Fiber*> by_rank;
  std::map<const void*, size_t> allowed_shared;
  Context host;
  void* host_fake_stack = nullptr;
  const void* host_bottom = nullptr;
  size_t host_size = 0;
  void* host_tsan = nullptr;
  Fiber* now = nullptr;
  void (*body)(void*) = nullptr;
  void* body_context = nullptr;
  unsigned threads = 0, votes = 0, vote_result = 0;
  std::mt19937 random{1};
  std::string order = "up";
  uint64_t switches = 0, launches = 0;
  char launched, ended;    // happens-before tokens of the launch
  char* tokens = nullptr;  // and of the running block
  int barrier_parity = 0;
  unsigned char* dynamic_shared = nullptr;
  size_t dynamic_shared_bytes = 0;
};

// Never destroyed: fibers' stacks stay mapped until the process ends.
Machine& machine() {
  static Machine* const instance = new Machine;
  return *instance;
}

void acquire(void* token) {
  if (__tsan_acquire) __tsan_acquire(token);
}
void release(void* token) {
  if (__tsan_release) __tsan_release(token);
}

void switch_to_host(bool dying) {
  Machine& m = machine();
  Fiber& f = *m.now;
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(m.host_tsan, kNoSync);
  if (__sanitizer_start_switch_fiber)
    __sanitizer_start_switch_fiber(dying ? nullptr : &f.fake_stack, m.host_bottom, m.host_size);
  f.context.switch_to(m.host);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(f.fake_stack, &m.host_bottom, &m.host_size);
}

void resume(Fiber& f) {
  Machine& m = machine();
  m.now = &f;
  threadIdx = f.thread;
  ++m.switches;
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(f.tsan, kNoSync);
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&m.host_fake_stack, f.stack, kStackBytes);
  m.host.switch_to(f.context);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(m.host_fake_stack, nullptr, nullptr);
}

// Frees the lanes of a group once all of its mask have arrived; lanes that left the kernel no longer count.
void complete(unsigned warp, MaskGroup& g) {
  Machine& m = machine();
  if (!g.arrived || (g.arrived | (g.mask & m.warps[warp].exited)) != g.mask) return;
  for (unsigned lane = 0; lane < 32; ++lane)
    if (g.arrived >> lane & 1) m.by_rank[warp * 32 + lane]->state = State::kReady;
  g.done[g.parity] = g.arrived;
  g.arrived = 0;
  g.parity ^= 1;
}

void fiber_main() {
  Machine& m = machine();
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, &m.host_bottom, &m.host_size);
  acquire(&m.launched);
  m.body(m.body_context);
  Fiber& f = *m.now;
  release(&m.ended);
  f.state = State::kDone;
  Warp& w = m.warps[f.rank / 32];
  w.exited |= 1u << f.rank % 32;
  for (unsigned i = 0; i < w.used; ++i) complete(f.rank / 32, w.group[i]);
  switch_to_host(true);
  std::abort();
}

void make_fibers(size_t count) {
  Machine& m = machine();
  if (__tsan_create_fiber && count > kMaxFibers)
    cuda_on_cpu_fail("too many threads for ThreadSanitizer: launch a smaller grid");
  if (m.fibers.size() < count) m.fibers.resize(count);
  for (Fiber& f : m.fibers) {
    if (f.stack) continue;
    void* stack =
        mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED) cuda_on_cpu_fail("no memory for a stack");
    f.stack = static_cast<char*>(stack);
    if (__tsan_create_fiber) f.tsan = __tsan_create_fiber(0);
  }
}

void start_block(size_t first_fiber, std::vector<Fiber*>& sequence) {
  Machine& m = machine();
  const unsigned warps = (m.threads + 31) / 32;
  for (unsigned w = 0; w < warps; ++w) m.warps[w].used = m.warps[w].exited = 0;
  if (m.threads % 32) m.warps[warps - 1].exited = ~0u << m.threads % 32;
  m.votes = 0;
  for (unsigned rank = 0; rank < m.threads; ++rank) {
    Fiber& f = m.fibers[first_fiber + rank];
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(f.stack, kStackBytes);
    f.rank = rank;
    f.meetings = 0;
    f.state = State::kReady;
    f.thread = {rank % blockDim.x, rank / blockDim.x % blockDim.y, rank / (blockDim.x * blockDim.y)};
    f.context.start(f.stack, fiber_main);
    sequence.push_back(&f);
  }
  m.by_rank = sequence;
  if (m.order == "down") std::reverse(sequence.begin(), sequence.end());
}

[[noreturn]] void fail_divergent(const Fiber& a, const Fiber& b) {
  std::fprintf(stderr, "cuda_on_cpu: block (%u,%u,%u): thread %u waits at %s, thread %u at %s\n", blockIdx.x,
               blockIdx.y, blockIdx.z, a.rank, a.site, b.rank, b.site);
  std::abort();
}

[[noreturn]] void fail_deadlock(const std::vector<Fiber*>& sequence) {
  std::fprintf(stderr, "cuda_on_cpu: deadlock in block (%u,%u,%u):", blockIdx.x, blockIdx.y, blockIdx.z);
  int shown = 0;
  for (const Fiber* f : sequence)
    if (f->state != State::kDone && shown++ < 6)
      std::fprintf(stderr, " thread %u in %s", f->rank, f->state == State::kAtBarrier ? "__syncthreads" : f->kind);
  std::fprintf(stderr, "\n");
  std::abort();
}

// Lets all waiting threads pass when every live thread of the block waits at the same barrier.
bool open_barrier(const std::vector<Fiber*>& sequence, unsigned live) {
  Machine& m = machine();
  unsigned waiting = 0;
  const Fiber* first = nullptr;
  for (const Fiber* f : sequence) {
    if (f->state != State::kAtBarrier) continue;
    if (!first) first = f;
    if (f->site != first->site && std::strcmp(f->site, first->site) != 0) fail_divergent(*first, *f);
    ++waiting;
  }
  if (waiting != live) return false;
  if (live != m.threads) cuda_on_cpu_fail("__syncthreads() after some threads of the block have left the kernel");
  m.vote_result = m.votes;
  m.votes = 0;
  m.barrier_parity ^= 1;
  for (Fiber* f : sequence) f->state = State::kReady;
  return true;
}

void run_block(size_t first_fiber) {
  Machine& m = machine();
  std::vector<Fiber*> sequence;
  start_block(first_fiber, sequence);
  for (;;) {
    if (m.order[0] == 'r') std::shuffle(sequence.begin(), sequence.end(), m.random);
    for (Fiber* f : sequence)
      if (f->state == State::kReady) resume(*f);
    unsigned live = 0;
    bool any_ready = false;
    for (const Fiber* f : sequence) {
      live += f->state != State::kDone;
      any_ready |= f->state == State::kReady;
    }
    if (live == 0) return;
    if (!open_barrier(sequence, live) && !any_ready) fail_deadlock(sequence);
  }
}

int check_launch(dim3 grid, uint64_t threads, dim3 block, size_t shared_bytes, const void* kernel) {
  Machine& m = machine();
  if (threads == 0 || threads > 1024 || block.z > 64 || !grid.x || !grid.y || !grid.z || grid.x > 0x7fffffffu ||
      grid.y > 65535 || grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  const auto allowed = m.allowed_shared.find(kernel);
  const size_t limit = allowed == m.allowed_shared.end() ? 48 * 1024 : allowed->second;
  return shared_bytes > limit ? cudaErrorInvalidValue : cudaSuccess;
}

void read_order() {
  Machine& m = machine();
  const char* order = std::getenv("CUDA_ON_CPU_ORDER");
  if (order == nullptr || *order == '\0') return;
  m.order = order;
  if (m.order.rfind("random:", 0) == 0) m.random.seed(unsigned(std::atoi(order + 7)));
}

}  // namespace

extern "C" {

void cuda_on_cpu_fail(const char* what) {
  const Machine& m = machine();
  std::fprintf(stderr, "cuda_on_cpu: block (%u,%u,%u) thread %u: %s\n", blockIdx.x, blockIdx.y, blockIdx.z,
               m.now ? m.now->rank : 0, what);
  std::abort();
}

uint64_t cuda_on_cpu_switches() { return machine().switches; }
uint64_t cuda_on_cpu_launches() { return machine().launches; }
uint64_t cuda_on_cpu_meetings() { return machine().now->meetings; }
unsigned char* cuda_on_cpu_dynamic_shared() { return machine().dynamic_shared; }
size_t cuda_on_cpu_dynamic_shared_bytes() { return machine().dynamic_shared_bytes; }

int cuda_on_cpu_allow_shared(const void* kernel, size_t bytes) {
  if (bytes > 227 * 1024) return cudaErrorInvalidValue;
  machine().allowed_shared[kernel] = bytes;
  return cudaSuccess;
}

int cuda_on_cpu_block_barrier(const char* site, int predicate) {
  Machine& m = machine();
  Fiber& f = *m.now;
  ++f.meetings;
  f.site = site;
  f.state = State::kAtBarrier;
  m.votes += predicate;
  char* token = m.tokens + m.barrier_parity;
  release(token);
  switch_to_host(false);
  acquire(token);
  return int(m.vote_result);
}

unsigned cuda_on_cpu_warp_meet(const char* kind, unsigned mask, uint64_t mine, uint64_t values[32], bool fences) {
  Machine& m = machine();
  Fiber& f = *m.now;
  ++f.meetings;
  const unsigned warp = f.rank / 32, lane = f.rank % 32;
  Warp& w = m.warps[warp];
  if (!(mask >> lane & 1)) cuda_on_cpu_fail("the calling lane is not in the mask");
  unsigned i = 0;
  while (i < w.used && w.group[i].mask != mask) ++i;
  if (i == kMaskGroups) cuda_on_cpu_fail("too many different masks in one warp");
  MaskGroup& g = w.group[i];
  if (i == w.used) {
    ++w.used;
    g.mask = mask;
    g.arrived = 0;
    g.parity = 0;
  }
  if (g.arrived && g.kind != kind && std::strcmp(g.kind, kind) != 0)
    cuda_on_cpu_fail("lanes of one mask meet in different intrinsics");
  const int parity = g.parity;
  g.kind = kind;
  g.arrived |= 1u << lane;
  g.value[parity][lane] = mine;
  char* token = m.tokens + kBarrierTokens + warp * kWarpTokens + i * 2 + parity;
  if (fences) release(token);
  f.kind = kind;
  f.state = State::kInWarp;
  complete(warp, g);
  if (f.state == State::kInWarp) switch_to_host(false);
  if (fences) acquire(token);
  // volatile: a memcpy would be intercepted by the sanitizer, which knows nothing of these fibers' happens-before
  for (volatile unsigned l = 0; l < 32; l = l + 1) values[l] = g.value[parity][l];
  return g.done[parity];
}

int cuda_on_cpu_launch(dim3 grid, dim3 block, size_t shared_bytes, const void* kernel, void (*body)(void*),
                       void* context) {
  Machine& m = machine();
  const std::lock_guard<std::mutex> lock(m.mutex);
  const uint64_t threads = uint64_t(block.x) * block.y * block.z;
  if (const int error = check_launch(grid, threads, block, shared_bytes, kernel)) return error;
  read_order();
  ++m.launches;
  blockDim = block;
  gridDim = grid;
  m.threads = unsigned(threads);
  m.body = body;
  m.body_context = context;
  if (__tsan_get_current_fiber) m.host_tsan = __tsan_get_current_fiber();
  const char* races = std::getenv("CUDA_ON_CPU_RACES");
  const bool across_grid = races && std::strcmp(races, "grid") == 0;
  std::vector<uint64_t> blocks(uint64_t(grid.x) * grid.y * grid.z);
  for (uint64_t b = 0; b < blocks.size(); ++b) blocks[b] = b;
  if (m.order == "down") std::reverse(blocks.begin(), blocks.end());
  if (m.order[0] == 'r') std::shuffle(blocks.begin(), blocks.end(), m.random);

  // Dynamic shared memory of the exact size (AddressSanitizer sees one byte past it), NaN until it is written.
  std::vector<std::unique_ptr<unsigned char[]>> shared(blocks.size());
  const auto make_shared = [&](uint64_t i) {
    shared[i].reset(new unsigned char[shared_bytes ? shared_bytes : 1]);
    std::memset(shared[i].get(), 0xff, shared_bytes);
  };
  if (across_grid)  // ThreadSanitizer must see every thread of the grid as its own
    for (uint64_t i = 0; i < blocks.size(); ++i) make_shared(i);
  make_fibers(across_grid ? threads * blocks.size() : threads);
  std::vector<char> tokens(kTokens * (across_grid ? blocks.size() : 1));
  release(&m.launched);
  for (uint64_t i = 0; i < blocks.size(); ++i) {
    const uint64_t b = blocks[i];
    blockIdx = {unsigned(b % grid.x), unsigned(b / grid.x % grid.y), unsigned(b / (uint64_t(grid.x) * grid.y))};
    if (!across_grid) {
      make_shared(i);
      release(&m.launched);
    }
    m.dynamic_shared = shared[i].get();
    m.dynamic_shared_bytes = shared_bytes;
    m.tokens = tokens.data() + (across_grid ? i * kTokens : 0);
    run_block(across_grid ? i * threads : 0);
    if (!across_grid) {
      acquire(&m.ended);
      shared[i].reset();
    }
  }
  acquire(&m.ended);
  return cudaSuccess;
}
}
