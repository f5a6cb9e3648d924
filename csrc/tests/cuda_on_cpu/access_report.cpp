// Memory-access report of emulated kernels: implements the hooks that -fsanitize=thread inserts, in place of libtsan.
// Kernels are compiled with -fsanitize=thread, linked WITHOUT it, this file added. One line per load/store instruction:
//   global: 32-byte sectors moved per warp request, against the fewest that the same bytes need
//   shared: bank-conflict ways (words of one bank that differ; 4-byte banks)
// Buffers must be aligned to 256 bytes before sectors are counted, as device allocations are.
#include <cuda_runtime.h>

#include <cstdlib>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

extern "C" char __data_start, _end, __executable_start;

namespace {

// One warp executing one instruction for the nth time since its lanes last met, at a barrier or in a warp intrinsic:
// lanes that ran a loop more often than others fall in again there.
struct RequestKey {
  uintptr_t pc;
  unsigned warp;
  uint64_t meetings;
  unsigned nth;
  bool operator<(const RequestKey& o) const {
    return std::tie(pc, warp, meetings, nth) < std::tie(o.pc, o.warp, o.meetings, o.nth);
  }
};
struct Executions {
  uint64_t meetings = 0;
  unsigned count = 0;  // since then
};
struct Request {
  unsigned size = 0;
  std::vector<uintptr_t> addresses;
};
struct Instruction {
  char kind = 0;  // r, w, a
  bool shared = false;
  uint64_t requests = 0, sectors = 0, least_sectors = 0, ways = 0, bytes = 0;
};

std::map<RequestKey, Request> open_requests;
std::map<uintptr_t, Instruction> instructions;
std::unordered_map<uint64_t, Executions> executions;  // of an instruction by a thread
uint64_t current_block = ~0ull, current_launch = 0;

void close_requests() {
  for (const auto& [key, request] : open_requests) {
    std::set<uintptr_t> sectors, bytes;
    std::map<unsigned, std::set<uintptr_t>> banks;
    for (const uintptr_t address : request.addresses) {
      for (unsigned b = 0; b < request.size; ++b) bytes.insert(address + b);
      sectors.insert(address / 32);
      sectors.insert((address + request.size - 1) / 32);
      for (unsigned w = 0; w < (request.size + 3) / 4; ++w) banks[(address / 4 + w) % 32].insert(address / 4 + w);
    }
    size_t ways = 0;
    for (const auto& bank : banks) ways = std::max(ways, bank.second.size());
    if (request.size > 4) ways = (ways * 4 + request.size - 1) / request.size;  // wide words go in several passes
    Instruction& instruction = instructions[key.pc];
    ++instruction.requests;
    instruction.sectors += sectors.size();
    instruction.least_sectors += (bytes.size() + 31) / 32;
    instruction.ways += ways;
    instruction.bytes += bytes.size();
  }
  open_requests.clear();
  executions.clear();
}

bool is_special_register(uintptr_t address) {
  for (const void* v : {static_cast<const void*>(&threadIdx), static_cast<const void*>(&blockIdx),
                        static_cast<const void*>(&blockDim), static_cast<const void*>(&gridDim)})
    if (address - reinterpret_cast<uintptr_t>(v) < sizeof(dim3)) return true;
  return false;
}

__attribute__((noinline)) void access(char kind, const volatile void* p, unsigned size, uintptr_t pc) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  const auto stack = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  if (address + 65536 > stack && address < stack + 262144) return;  // the thread's own stack: registers, local memory
  if (is_special_register(address)) return;
  const auto dynamic = reinterpret_cast<uintptr_t>(cuda_on_cpu_dynamic_shared());
  const bool shared =
      (address >= dynamic && address < dynamic + cuda_on_cpu_dynamic_shared_bytes()) ||
      (address >= reinterpret_cast<uintptr_t>(&__data_start) && address < reinterpret_cast<uintptr_t>(&_end));
  const uint64_t block = blockIdx.x + uint64_t(gridDim.x) * (blockIdx.y + uint64_t(gridDim.y) * blockIdx.z);
  if (block != current_block || cuda_on_cpu_launches() != current_launch) {
    close_requests();
    current_block = block;
    current_launch = cuda_on_cpu_launches();
  }
  const unsigned rank = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  Instruction& instruction = instructions[pc];
  instruction.kind = kind;
  instruction.shared = shared;
  Executions& mine = executions[pc * 1024 + rank];
  if (mine.meetings != cuda_on_cpu_meetings()) mine = {cuda_on_cpu_meetings(), 0};
  Request& request = open_requests[{pc, rank / 32, mine.meetings, mine.count++}];
  request.size = size;
  request.addresses.push_back(address);
}

struct PrintAtExit {
  ~PrintAtExit() {
    close_requests();
    for (const auto& [pc, i] : instructions) {
      if (i.requests == 0) continue;
      const char* kind = i.kind == 'r' ? "load" : i.kind == 'w' ? "store" : "atomic";
      std::printf("access 0x%lx %s %s %lu %lu %.3f %.3f\n",
                  static_cast<unsigned long>(pc - reinterpret_cast<uintptr_t>(&__executable_start)),
                  i.shared ? "shared" : "global", kind, static_cast<unsigned long>(i.requests),
                  static_cast<unsigned long>(i.bytes), double(i.sectors) / double(i.least_sectors),
                  double(i.ways) / double(i.requests));
    }
  }
} print_at_exit;

}  // namespace

#define CALLER (reinterpret_cast<uintptr_t>(__builtin_return_address(0)) - 1)
#define PLAIN_HOOKS(bytes)                                                      \
  void __tsan_read##bytes(void* p) { access('r', p, bytes, CALLER); }           \
  void __tsan_write##bytes(void* p) { access('w', p, bytes, CALLER); }          \
  void __tsan_unaligned_read##bytes(void* p) { access('r', p, bytes, CALLER); } \
  void __tsan_unaligned_write##bytes(void* p) { access('w', p, bytes, CALLER); }
#define ATOMIC_HOOKS(bits, T)                                                                     \
  T __tsan_atomic##bits##_load(const volatile T* p, int) { return *p; }                           \
  bool __tsan_atomic##bits##_compare_exchange_strong(volatile T* p, T* expected, T x, int, int) { \
    access('a', p, bits / 8, CALLER);                                                             \
    if (*p == *expected) {                                                                        \
      *p = x;                                                                                     \
      return true;                                                                                \
    }                                                                                             \
    *expected = *p;                                                                               \
    return false;                                                                                 \
  }

extern "C" {
PLAIN_HOOKS(1)
PLAIN_HOOKS(2)
PLAIN_HOOKS(4)
PLAIN_HOOKS(8)
PLAIN_HOOKS(16)
ATOMIC_HOOKS(32, int)
ATOMIC_HOOKS(64, long)
void __tsan_read_range(void* p, size_t n) { access('r', p, unsigned(n), CALLER); }
void __tsan_write_range(void* p, size_t n) { access('w', p, unsigned(n), CALLER); }
void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_atomic_thread_fence(int) {}
}
